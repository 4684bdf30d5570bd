package operator

import (
	"fmt"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

const (
	std  = "airflow.providers.standard."
	http = "airflow.providers.http."
)

// Registry finds operators by class path. Register all before the first Resolve.
type Registry struct {
	ops map[string]taskrunner.Operator
}

// Default returns a Registry with every operator of this package.
func Default() *Registry {
	r := &Registry{ops: map[string]taskrunner.Operator{}}
	fn := func(f taskrunner.OperatorFunc, classes ...string) {
		for _, c := range classes {
			r.Register(c, f)
		}
	}
	fn(empty, std+"operators.empty.EmptyOperator", std+"sensors.external_task.ExternalTaskMarker")
	fn(smooth, std+"operators.smooth.SmoothOperator")
	fn(bash, std+"operators.bash.BashOperator")
	fn(bashDecorated, std+"decorators.bash._BashDecoratedOperator")
	fn(python, std+"operators.python.PythonOperator", std+"decorators.python._PythonDecoratedOperator")
	fn(branchPython, std+"operators.python.BranchPythonOperator", std+"decorators.branch_python._BranchPythonDecoratedOperator")
	fn(shortCircuit, std+"operators.python.ShortCircuitOperator", std+"decorators.short_circuit._ShortCircuitDecoratedOperator")
	fn(pythonVirtualenv, std+"operators.python.PythonVirtualenvOperator", std+"decorators.python_virtualenv._PythonVirtualenvDecoratedOperator")
	fn(branching(pythonVirtualenv), std+"operators.python.BranchPythonVirtualenvOperator", std+"decorators.branch_virtualenv._BranchPythonVirtualenvDecoratedOperator")
	fn(externalPython, std+"operators.python.ExternalPythonOperator", std+"decorators.external_python._PythonExternalDecoratedOperator")
	fn(branching(externalPython), std+"operators.python.BranchExternalPythonOperator", std+"decorators.branch_external_python._BranchExternalPythonDecoratedOperator")
	fn(latestOnly, std+"operators.latest_only.LatestOnlyOperator")
	fn(branchDateTime, std+"operators.datetime.BranchDateTimeOperator")
	fn(branchDayOfWeek, std+"operators.weekday.BranchDayOfWeekOperator")
	r.Register(std+"operators.trigger_dagrun.TriggerDagRunOperator", triggerDagRun{})
	for class, s := range map[string]sensor{
		std + "sensors.python.PythonSensor":               {poke: pokePython},
		std + "decorators.sensor.DecoratedSensorOperator": {poke: pokePython},
		std + "sensors.bash.BashSensor":                   {poke: pokeBash},
		std + "sensors.filesystem.FileSensor":             {poke: pokeFile},
		std + "sensors.weekday.DayOfWeekSensor":           {poke: pokeDayOfWeek},
		std + "sensors.external_task.ExternalTaskSensor":  {poke: pokeExternalTask, wait: waitExternalTask},
		http + "sensors.http.HttpSensor":                  {poke: pokeHTTP},
		std + "sensors.time_delta.TimeDeltaSensor":        {moment: afterDelta},
		std + "sensors.time_delta.TimeDeltaSensorAsync":   {moment: afterDelta, async: true},
		std + "sensors.date_time.DateTimeSensor":          {moment: atDateTime},
		std + "sensors.date_time.DateTimeSensorAsync":     {moment: atDateTime, async: true},
		std + "sensors.time.TimeSensor":                   {moment: atTimeOfDay},
		std + "sensors.time.TimeSensorAsync":              {moment: atTimeOfDay, async: true},
		std + "sensors.time_delta.WaitSensor":             {moment: afterWait},
	} {
		r.Register(class, s)
	}
	fn(httpOperator, http+"operators.http.HttpOperator", http+"operators.http.SimpleHttpOperator")
	for class, k := range map[string]hitlKind{"HITLOperator": hitlPlain, "ApprovalOperator": hitlApproval, "HITLBranchOperator": hitlBranch, "HITLEntryOperator": hitlEntry} {
		r.Register(std+"operators.hitl."+class, hitl{k})
	}
	return r
}

// Register adds or replaces the operator of a class path.
func (r *Registry) Register(class string, op taskrunner.Operator) { r.ops[class] = op }

// Classes returns the registered class paths, sorted.
func (r *Registry) Classes() []string {
	out := make([]string, 0, len(r.ops))
	for c := range r.ops {
		out = append(out, c)
	}
	sort.Strings(out)
	return out
}

// Resolve implements taskrunner.Resolver.
func (r *Registry) Resolve(class string) (taskrunner.Operator, error) {
	if op, ok := r.ops[class]; ok {
		return op, nil
	}
	if spec, ok := operatorspec.Lookup(class); ok {
		if op, ok := r.ops[spec.Class]; ok { // another spelling
			return op, nil
		}
	}
	text := fmt.Sprintf("this worker cannot run the operator class %s", class)
	switch {
	case class == std+"decorators.stub._StubOperator":
		text += ": @task.stub marks work of another language's runtime; give the task the queue of a worker that has it"
	case strings.Contains(class, "common.sql."):
		text += ": it was built without database drivers; send the task to a worker that has them (its queue), or use BashOperator with the database's client"
	case strings.HasPrefix(class, "airflow.providers."):
		text += ": run the task where the full Python runtime is (queue or executor of the task), or use BashOperator, PythonOperator or HttpOperator " +
			"to call the same service"
	default:
		text += ": a class of your own needs the full Python runtime (queue or executor of the task); a function under PythonOperator or @task runs here"
	}
	return nil, fmt.Errorf("%s", text)
}
