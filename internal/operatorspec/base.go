package operatorspec

// PyType is the Python type that Airflow requires of a BaseOperator argument.
type PyType string

// The types Airflow checks. The zero value means "not checked".
const (
	Any      PyType = ""
	Str      PyType = "str"
	Bool     PyType = "bool"
	Int      PyType = "int"
	Number   PyType = "number"   // int or float
	Email    PyType = "email"    // str or sequence
	Datetime PyType = "datetime" // datetime
)

// BaseParam is an argument that every operator takes.
type BaseParam struct {
	Name string
	Type PyType
}

// baseParams are BaseOperator's arguments; those with a type come in the order
// in which Airflow checks them.
var baseParams = []BaseParam{
	{"task_id", Str}, {"email", Email}, {"email_on_retry", Bool}, {"email_on_failure", Bool}, {"retries", Int},
	{"retry_exponential_backoff", Number}, {"depends_on_past", Bool}, {"ignore_first_depends_on_past", Bool},
	{"wait_for_past_depends_before_skipping", Bool}, {"wait_for_downstream", Bool}, {"priority_weight", Int}, {"queue", Str},
	{"pool", Str}, {"pool_slots", Int}, {"trigger_rule", Str}, {"run_as_user", Str}, {"map_index_template", Str},
	{"max_active_tis_per_dag", Int}, {"max_active_tis_per_dagrun", Int}, {"executor", Str}, {"do_xcom_push", Bool},
	{"multiple_outputs", Bool}, {"doc", Str}, {"doc_md", Str}, {"doc_json", Str}, {"doc_yaml", Str}, {"doc_rst", Str},
	{"task_display_name", Str}, {"logger_name", Str}, {"allow_nested_operators", Bool}, {"start_date", Datetime}, {"end_date", Datetime},

	{"owner", Any}, {"retry_delay", Any}, {"max_retry_delay", Any}, {"retry_policy", Any}, {"dag", Any}, {"params", Any},
	{"default_args", Any}, {"weight_rule", Any}, {"sla", Any}, {"execution_timeout", Any}, {"on_execute_callback", Any},
	{"on_failure_callback", Any}, {"on_success_callback", Any}, {"on_retry_callback", Any}, {"on_skipped_callback", Any},
	{"pre_execute", Any}, {"post_execute", Any}, {"resources", Any}, {"executor_config", Any}, {"inlets", Any}, {"outlets", Any},
	{"task_group", Any}, {"render_template_as_native_obj", Any},
}

var baseByName = func() map[string]PyType {
	m := make(map[string]PyType, len(baseParams))
	for _, p := range baseParams {
		m[p.Name] = p.Type
	}
	return m
}()

// BaseParams returns BaseOperator's arguments; those whose type Airflow checks
// come first, in the order of its checks.
func BaseParams() []BaseParam { return baseParams }

// IsBaseParam reports whether BaseOperator takes an argument of that name.
func IsBaseParam(name string) bool { _, ok := baseByName[name]; return ok }

const standard = "airflow.providers.standard."

// runnable are the classes a Gust worker runs.
var runnable = map[string]bool{
	standard + "operators.empty.EmptyOperator":                                            true,
	standard + "operators.smooth.SmoothOperator":                                          true,
	standard + "operators.bash.BashOperator":                                              true,
	standard + "operators.latest_only.LatestOnlyOperator":                                 true,
	standard + "operators.trigger_dagrun.TriggerDagRunOperator":                           true,
	standard + "operators.datetime.BranchDateTimeOperator":                                true,
	standard + "operators.weekday.BranchDayOfWeekOperator":                                true,
	standard + "sensors.time_delta.TimeDeltaSensor":                                       true,
	standard + "sensors.time_delta.TimeDeltaSensorAsync":                                  true,
	standard + "sensors.time_delta.WaitSensor":                                            true,
	standard + "sensors.date_time.DateTimeSensor":                                         true,
	standard + "sensors.date_time.DateTimeSensorAsync":                                    true,
	standard + "sensors.time.TimeSensor":                                                  true,
	standard + "sensors.time.TimeSensorAsync":                                             true,
	standard + "sensors.weekday.DayOfWeekSensor":                                          true,
	standard + "sensors.filesystem.FileSensor":                                            true,
	standard + "sensors.bash.BashSensor":                                                  true,
	standard + "sensors.python.PythonSensor":                                              true,
	standard + "sensors.external_task.ExternalTaskSensor":                                 true,
	standard + "sensors.external_task.ExternalTaskMarker":                                 true,
	"airflow.providers.http.operators.http.HttpOperator":                                  true,
	"airflow.providers.http.sensors.http.HttpSensor":                                      true,
	"airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator":                  true,
	standard + "operators.python.PythonOperator":                                          true,
	standard + "operators.python.BranchPythonOperator":                                    true,
	standard + "operators.python.ShortCircuitOperator":                                    true,
	standard + "operators.python.PythonVirtualenvOperator":                                true,
	standard + "operators.python.BranchPythonVirtualenvOperator":                          true,
	standard + "operators.python.ExternalPythonOperator":                                  true,
	standard + "operators.python.BranchExternalPythonOperator":                            true,
	standard + "decorators.python._PythonDecoratedOperator":                               true,
	standard + "decorators.branch_python._BranchPythonDecoratedOperator":                  true,
	standard + "decorators.short_circuit._ShortCircuitDecoratedOperator":                  true,
	standard + "decorators.bash._BashDecoratedOperator":                                   true,
	standard + "decorators.sensor.DecoratedSensorOperator":                                true,
	standard + "decorators.python_virtualenv._PythonVirtualenvDecoratedOperator":          true,
	standard + "decorators.branch_virtualenv._BranchPythonVirtualenvDecoratedOperator":    true,
	standard + "decorators.external_python._PythonExternalDecoratedOperator":              true,
	standard + "decorators.branch_external_python._BranchExternalPythonDecoratedOperator": true,
}

// Runnable reports whether a Gust worker can run instances of the class; tasks
// of other classes load, and fail when dispatched.
func Runnable(class string) bool { return runnable[class] }

// Paths of classes with rules of their own.
const (
	Empty           = standard + "operators.empty.EmptyOperator"
	Python          = standard + "operators.python.PythonOperator"
	PythonSensor    = standard + "sensors.python.PythonSensor"
	ExternalTask    = standard + "sensors.external_task.ExternalTaskSensor"
	TriggerDagRun   = standard + "operators.trigger_dagrun.TriggerDagRunOperator"
	HTTPOperator    = "airflow.providers.http.operators.http.HttpOperator"
	HTTPSensor      = "airflow.providers.http.sensors.http.HttpSensor"
	SQLSensor       = "airflow.providers.common.sql.sensors.sql.SqlSensor"
	SQLExecuteQuery = "airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator"
	KubernetesPod   = "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator"
	DecoratedPython = standard + "decorators.python._PythonDecoratedOperator"
)
