package config

import "time"

// Config is every setting of an installation. Names are Airflow's where Airflow
// has the setting. The comment of each field is what `gust config list
// --include-descriptions` shows; it ends with the default.
type Config struct {
	// Home is the folder that holds all state; set by the caller of Load.
	Home string

	Core         Core         `section:"core"`
	Scheduler    Scheduler    `section:"scheduler"`
	Workers      Workers      `section:"workers"`
	DagProcessor DagProcessor `section:"dag_processor"`
	Triggerer    Triggerer    `section:"triggerer"`
	Operators    Operators    `section:"operators"`
	Sensors      Sensors      `section:"sensors"`
	Logging      Logging      `section:"logging"`
	API          API          `section:"api"`
	APIAuth      APIAuth      `section:"api_auth"`
	OIDC         OIDC         `section:"oidc"`
	Secrets      Secrets      `section:"secrets"`
	Email        Email        `section:"email"`
	SMTP         SMTP         `section:"smtp"`
	Metrics      Metrics      `section:"metrics"`
	Traces       Traces       `section:"traces"`
	OpenLineage  OpenLineage  `section:"openlineage"`
	Gust         Gust         `section:"gust"`

	settings []setting
	ignored  []Ignored
}

// Core is section [core].
type Core struct {
	// DagsFolder is the folder with the DAG files. Default {home}/dags.
	DagsFolder string `key:"dags_folder" default:"{home}/dags" kind:"path"`
	// Executor runs the tasks that name none: LocalExecutor (a bounded pool on this
	// machine), SequentialExecutor (one at a time), or EdgeExecutor, whose workers pull
	// from this server (gust worker --api-url); CeleryExecutor is another name of it.
	// Default LocalExecutor.
	Executor string `key:"executor" default:"LocalExecutor" oneof:"LocalExecutor,SequentialExecutor,EdgeExecutor,CeleryExecutor"`
	// Parallelism is how many task instances may be queued or running at once. Default 32.
	Parallelism int `key:"parallelism" default:"32" min:"1"`
	// MaxActiveTasksPerDag is max_active_tasks of DAGs that set none: task instances
	// running at once in a run. Default 16.
	MaxActiveTasksPerDag int `key:"max_active_tasks_per_dag" default:"16" min:"1"`
	// MaxActiveRunsPerDag is max_active_runs of DAGs that set none. Default 16.
	MaxActiveRunsPerDag int `key:"max_active_runs_per_dag" default:"16" min:"1"`
	// MaxConsecutiveFailedDagRunsPerDag pauses a DAG after so many failed runs in a
	// row, for DAGs that set no number; 0 never does. Default 0.
	MaxConsecutiveFailedDagRunsPerDag int `key:"max_consecutive_failed_dag_runs_per_dag" default:"0" min:"0"`
	// DagsArePausedAtCreation pauses new DAGs that do not say otherwise. Default True.
	DagsArePausedAtCreation bool `key:"dags_are_paused_at_creation" default:"True"`
	// DefaultTimezone is the time zone of dates without one: an IANA name, or utc.
	// Default utc.
	DefaultTimezone string `key:"default_timezone" default:"utc" kind:"timezone"`
	// MaxMapLength is the most instances a mapped task may expand to. Default 1024.
	MaxMapLength int `key:"max_map_length" default:"1024" min:"1"`
	// DefaultTaskRetries is retries of tasks that set none. Default 0.
	DefaultTaskRetries int `key:"default_task_retries" default:"0" min:"0"`
	// DefaultTaskRetryDelay is retry_delay of tasks that set none, in seconds. Default 300.
	DefaultTaskRetryDelay time.Duration `key:"default_task_retry_delay" default:"300" min:"0"`
	// MaxTaskRetryDelay bounds a delay that grows exponentially, in seconds. Default 86400.
	MaxTaskRetryDelay time.Duration `key:"max_task_retry_delay" default:"86400" min:"0"`
	// DefaultTaskWeightRule is weight_rule of tasks that set none: downstream,
	// upstream, absolute, or a class path. Default downstream.
	DefaultTaskWeightRule string `key:"default_task_weight_rule" default:"downstream"`
	// DefaultTaskExecutionTimeout is execution_timeout of tasks that set none, in
	// seconds; empty or 0 for none. Default (empty).
	DefaultTaskExecutionTimeout time.Duration `key:"default_task_execution_timeout" default:"" min:"0"`
	// DefaultImpersonation is run_as_user of tasks that set none: the system user that
	// their processes run as; the server must be root. Default (empty).
	DefaultImpersonation string `key:"default_impersonation" default:""`
	// KilledTaskCleanupTime is between SIGTERM and SIGKILL, in seconds. Default 60.
	KilledTaskCleanupTime time.Duration `key:"killed_task_cleanup_time" default:"60" min:"0"`
	// MaxNumRenderedTIFieldsPerTask is of how many runs the rendered fields of a
	// task are kept in Airflow. Default 30.
	MaxNumRenderedTIFieldsPerTask int `key:"max_num_rendered_ti_fields_per_task" default:"30" min:"0" noeffect:"rendered fields are kept as long as their run: see [gust] dag_run_retention_days"`
	// MaxTemplatedFieldLength truncates rendered fields that are shown, in characters.
	// Default 4096.
	MaxTemplatedFieldLength int `key:"max_templated_field_length" default:"4096" min:"1"`
	// DagRunConfOverridesParams lets the conf of a run override params. Default True.
	DagRunConfOverridesParams bool `key:"dag_run_conf_overrides_params" default:"True"`
	// DefaultPoolTaskSlotCount is the size default_pool is made with; -1 for no limit.
	// Default 128.
	DefaultPoolTaskSlotCount int `key:"default_pool_task_slot_count" default:"128" min:"-1"`
	// HideSensitiveVarConnFields masks values whose name says that they are secret.
	// Default True.
	HideSensitiveVarConnFields bool `key:"hide_sensitive_var_conn_fields" default:"True"`
	// SensitiveVarConnNames are more parts of names whose values are secret, divided
	// by commas. Default (empty).
	SensitiveVarConnNames []string `key:"sensitive_var_conn_names" default:""`
	// DagbagImportTimeout bounds the loading of one DAG file, in seconds. Default 30.
	DagbagImportTimeout time.Duration `key:"dagbag_import_timeout" default:"30" min:"0.1"`
	// DagIgnoreFileSyntax is the syntax of .airflowignore: glob or regexp. Default glob.
	DagIgnoreFileSyntax string `key:"dag_ignore_file_syntax" default:"glob" oneof:"glob,regexp"`
	// AllowedDeserializationClasses are the classes that XComs may be turned back
	// into, as patterns. Default airflow.*.
	AllowedDeserializationClasses []string `key:"allowed_deserialization_classes" default:"airflow.*"`
	// RerunWithLatestVersion runs cleared runs on the latest version of their DAG
	// where neither the request nor the DAG says so. Default False.
	RerunWithLatestVersion bool `key:"rerun_with_latest_version" default:"False"`
}

// Scheduler is section [scheduler].
type Scheduler struct {
	// CreateCronDataIntervals gives cron schedules data intervals, as Airflow 2 did.
	// Default False.
	CreateCronDataIntervals bool `key:"create_cron_data_intervals" default:"False"`
	// CreateDeltaDataIntervals gives timedelta schedules data intervals, as Airflow 2
	// did. Default False.
	CreateDeltaDataIntervals bool `key:"create_delta_data_intervals" default:"False"`
	// CatchupByDefault is catchup of DAGs that do not set it. Default False.
	CatchupByDefault bool `key:"catchup_by_default" default:"False"`
	// IgnoreFirstDependsOnPastByDefault lets a task with depends_on_past run when it
	// has no earlier instance. Default True.
	IgnoreFirstDependsOnPastByDefault bool `key:"ignore_first_depends_on_past_by_default" default:"True"`
	// TaskInstanceHeartbeatTimeout is how long a running task may be silent before it
	// counts as lost, in seconds. Default 300.
	TaskInstanceHeartbeatTimeout time.Duration `key:"task_instance_heartbeat_timeout" default:"300" min:"1"`
	// TaskQueuedTimeout is how long a task may be queued before it is queued again, in
	// seconds. Default 600.
	TaskQueuedTimeout time.Duration `key:"task_queued_timeout" default:"600" min:"1"`
	// NumStuckInQueuedRetries is how often a task stuck in queued is queued again
	// before it fails. Default 2.
	NumStuckInQueuedRetries int `key:"num_stuck_in_queued_retries" default:"2" min:"0"`
	// UseJobSchedule creates scheduled runs; with False only manual and
	// asset-triggered ones are. Default True.
	UseJobSchedule bool `key:"use_job_schedule" default:"True"`
	// AllowedRunIDPattern is the regular expression of run ids that users may give.
	// Default ^[A-Za-z0-9_.~:+-]+$.
	AllowedRunIDPattern string `key:"allowed_run_id_pattern" default:"^[A-Za-z0-9_.~:+-]+$" kind:"regexp"`
}

// Workers is section [workers].
type Workers struct {
	// MinHeartbeatInterval is between two heartbeats of a running task, in seconds.
	// Airflow's default is 5; each heartbeat is a write. Default 60.
	MinHeartbeatInterval time.Duration `key:"min_heartbeat_interval" default:"60" min:"1"`
	// MaxFailedHeartbeats is after how many failed heartbeats in a row a task ends
	// itself. Default 3.
	MaxFailedHeartbeats int `key:"max_failed_heartbeats" default:"3" min:"1"`
}

// DagProcessor is section [dag_processor].
type DagProcessor struct {
	// RefreshInterval is between full scans of the DAG folder, in seconds; changes
	// are noticed at once besides. Default 300.
	RefreshInterval time.Duration `key:"refresh_interval" default:"300" min:"0.1"`
	// StaleDagThreshold is how long a file must be gone before its DAGs are stale, in
	// seconds. Default 50.
	StaleDagThreshold time.Duration `key:"stale_dag_threshold" default:"50" min:"0"`
	// ParsingProcesses is how many files are parsed at once; 0 for one per processor.
	// Default 0.
	ParsingProcesses int `key:"parsing_processes" default:"0" min:"0"`
}

// Triggerer is section [triggerer].
type Triggerer struct {
	// Capacity is the most triggers of Python code that run at once. Default 1000.
	Capacity int `key:"capacity" default:"1000" min:"1" noeffect:"waits are timers of the scheduler, which hold no process; triggers written in Python cannot run yet"`
}

// Operators is section [operators].
type Operators struct {
	// DefaultOwner is owner of tasks that set none. Default airflow.
	DefaultOwner string `key:"default_owner" default:"airflow"`
	// DefaultQueue is queue of tasks that set none. Default default.
	DefaultQueue string `key:"default_queue" default:"default"`
	// DefaultDeferrable is deferrable of operators that can defer and do not say.
	// Default False.
	DefaultDeferrable bool `key:"default_deferrable" default:"False"`
}

// Sensors is section [sensors].
type Sensors struct {
	// DefaultTimeout is timeout of sensors that set none, in seconds. Default 604800.
	DefaultTimeout time.Duration `key:"default_timeout" default:"604800" min:"0"`
}

// Logging is section [logging].
type Logging struct {
	// BaseLogFolder is the folder of task logs. Default {home}/logs.
	BaseLogFolder string `key:"base_log_folder" default:"{home}/logs" kind:"path"`
	// LoggingLevel is the least level that is logged: DEBUG, INFO, WARNING, ERROR or
	// CRITICAL. Default INFO.
	LoggingLevel string `key:"logging_level" default:"INFO" oneof:"DEBUG,INFO,WARNING,ERROR,CRITICAL" kind:"upper"`
	// LogFilenameTemplate is where the log of a try lies below the log folder; only
	// Airflow 3's layout can be chosen. Default dag_id=…/run_id=…/task_id=…/[map_index=…/]attempt=….log.
	LogFilenameTemplate string `key:"log_filename_template" default:"dag_id=…/run_id=…/task_id=…/[map_index=…/]attempt=….log" kind:"logtemplate"`
	// MinLengthMaskedSecret is the length in bytes below which secrets are not masked
	// in logs. Default 5.
	MinLengthMaskedSecret int `key:"min_length_masked_secret" default:"5" min:"2"`
}

// API is section [api].
type API struct {
	// Host is the address the API server listens on. Airflow's default is 0.0.0.0.
	// Default 127.0.0.1.
	Host string `key:"host" default:"127.0.0.1"`
	// Port is the port the API server listens on; 0 for any. Default 8080.
	Port int `key:"port" default:"8080" min:"0" max:"65535"`
	// BaseURL is where users reach the API server, for ti.log_url in templates, mails
	// and webhooks; empty for the address served. Default (empty).
	BaseURL string `key:"base_url" default:""`
	// InstanceName is shown by the web interface. Default Gust.
	InstanceName string `key:"instance_name" default:"Gust"`
	// PageSize is how many items the API returns if asked for no number. Default 50.
	PageSize int `key:"page_size" default:"50" min:"1" max:"1000"`
	// MaximumPageLimit is the most items one page of the API may hold. Default 100.
	MaximumPageLimit int `key:"maximum_page_limit" default:"100" min:"1" max:"10000"`
	// ExposeConfig lets the API show the configuration, without secrets: True, False or
	// non-sensitive-only. Default False.
	ExposeConfig string `key:"expose_config" default:"False" kind:"expose" oneof:"True,False,non-sensitive-only"`
}

// APIAuth is section [api_auth]. The keys that sign tokens are in the store, sealed:
// see gust auth rotate-keys.
type APIAuth struct {
	// JWTExpirationTime is how long sessions and tokens of POST /auth/token live, in
	// seconds. Default 86400.
	JWTExpirationTime time.Duration `key:"jwt_expiration_time" default:"86400" min:"1"`
	// JWTCLIExpirationTime is how long tokens of POST /auth/token/cli live, in seconds.
	// Default 3600.
	JWTCLIExpirationTime time.Duration `key:"jwt_cli_expiration_time" default:"3600" min:"1"`
	// JWTAudience is the claim aud of tokens; others are refused. Default apache-airflow.
	JWTAudience string `key:"jwt_audience" default:"apache-airflow"`
	// JWTIssuer is the claim iss of tokens; others are refused. Default gust.
	JWTIssuer string `key:"jwt_issuer" default:"gust"`
	// JWTLeeway is the difference between clocks that is tolerated, in seconds. Default 10.
	JWTLeeway time.Duration `key:"jwt_leeway" default:"10" min:"0" max:"300"`
}

// OIDC is section [oidc]: sign-in by an OpenID Connect provider.
type OIDC struct {
	// Issuer is the provider's URL; without one there is no such sign-in. Default (empty).
	Issuer string `key:"issuer" default:""`
	// Name is what the sign-in page calls the provider. Default single sign-on.
	Name string `key:"name" default:"single sign-on"`
	// ClientID is this installation's id at the provider. Default (empty).
	ClientID string `key:"client_id" default:""`
	// ClientSecret is its secret; empty for a public client. Default (empty).
	ClientSecret string `key:"client_secret" default:"" sensitive:"true"`
	// Scopes are asked for besides openid. Default profile,email.
	Scopes []string `key:"scopes" default:"profile,email"`
	// UsernameClaim is the claim that becomes the user's name. Default preferred_username.
	UsernameClaim string `key:"username_claim" default:"preferred_username"`
	// GroupsClaim is the claim that lists the user's groups. Default groups.
	GroupsClaim string `key:"groups_claim" default:"groups"`
	// RoleMapping gives groups a role, as a JSON object: {"data-platform": "Admin"}; the
	// highest counts. Default (empty).
	RoleMapping string `key:"role_mapping" default:"" kind:"json"`
	// DefaultRole is the role of users in none of these groups; empty keeps them out.
	// Default (empty).
	DefaultRole string `key:"default_role" default:"" oneof:",Viewer,User,Op,Admin"`
}

// secretsBackends are the class paths that [secrets] backend may name; package
// secretsbackend knows them.
var secretsBackends = []string{
	"airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
	"airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend",
}

// Secrets is section [secrets].
type Secrets struct {
	// Backend is the class path of a secrets backend that is asked before environment
	// and store: that of AWS Secrets Manager or of the Systems Manager Parameter Store,
	// in a gust built with AWS. Default (empty).
	Backend string `key:"backend" default:"" kind:"backend"`
	// BackendKwargs are the backend's arguments, as a JSON object. Default (empty).
	BackendKwargs string `key:"backend_kwargs" default:"" kind:"json" sensitive:"true"`
}

// Email is section [email].
type Email struct {
	// EmailConnID is the connection that mail is sent through. Default smtp_default.
	EmailConnID string `key:"email_conn_id" default:"smtp_default"`
	// FromEmail is the sender of mails; empty for [smtp] smtp_mail_from. Default (empty).
	FromEmail string `key:"from_email" default:""`
	// DefaultEmailOnRetry is email_on_retry of tasks that do not set it. Default True.
	DefaultEmailOnRetry bool `key:"default_email_on_retry" default:"True"`
	// DefaultEmailOnFailure is email_on_failure of tasks that do not set it. Default True.
	DefaultEmailOnFailure bool `key:"default_email_on_failure" default:"True"`
	// SubjectTemplate is a file with the template of the subject of mails about failed
	// tasks; empty for Airflow's. Default (empty).
	SubjectTemplate string `key:"subject_template" default:""`
	// HTMLContentTemplate is a file with the template of the text of mails about failed
	// tasks; empty for Airflow's. Default (empty).
	HTMLContentTemplate string `key:"html_content_template" default:""`
	// SSLContext is how the certificate of the mail server is checked: default, or
	// none for not at all. Default default.
	SSLContext string `key:"ssl_context" default:"default" oneof:"default,none"`
}

// SMTP is section [smtp].
type SMTP struct {
	// Host is the mail server. Default localhost.
	Host string `key:"smtp_host" default:"localhost"`
	// Port is the mail server's port. Default 25.
	Port int `key:"smtp_port" default:"25" min:"1" max:"65535"`
	// StartTLS encrypts the connection after it was made. Default True.
	StartTLS bool `key:"smtp_starttls" default:"True"`
	// SSL encrypts the connection from the start. Default False.
	SSL bool `key:"smtp_ssl" default:"False"`
	// User logs in at the mail server; empty for no login. Default (empty).
	User string `key:"smtp_user" default:""`
	// Password logs in at the mail server. Default (empty).
	Password string `key:"smtp_password" default:"" sensitive:"true"`
	// MailFrom is the sender of mails. Default airflow@example.com.
	MailFrom string `key:"smtp_mail_from" default:"airflow@example.com"`
	// Timeout bounds each step of sending, in seconds. Default 30.
	Timeout time.Duration `key:"smtp_timeout" default:"30" min:"1"`
	// RetryLimit is how often sending is tried. Default 5.
	RetryLimit int `key:"smtp_retry_limit" default:"5" min:"1"`
}

// Gust is section [gust]: what Airflow has no setting for. Each key can also be
// set by GUST_<KEY>.
type Gust struct {
	// DagRunRetentionDays removes finished runs with their task instances after so
	// many days; 0 keeps them. Default 0.
	DagRunRetentionDays int `key:"dag_run_retention_days" default:"0" min:"0"`
	// LogRetentionDays removes task logs after so many days; 0 keeps them. Default 0.
	LogRetentionDays int `key:"log_retention_days" default:"0" min:"0"`
	// XComRetentionDays removes XComs of finished runs after so many days; 0 keeps
	// them as long as the run. Default 0.
	XComRetentionDays int `key:"xcom_retention_days" default:"0" min:"0"`
	// RetentionOverrides sets retention for single DAGs, as a JSON object:
	// {"my_dag": {"dag_runs": 30, "logs": 7, "xcoms": 7}}. Default (empty).
	RetentionOverrides string `key:"retention_overrides" default:"" kind:"json"`
	// RetentionInterval is between two automatic removals, in seconds. Default 3600.
	RetentionInterval time.Duration `key:"retention_interval" default:"3600" min:"1"`
	// MaxTaskLogBytes bounds the log of one try: beginning and end are kept; -1 for no
	// bound. Default 67108864.
	MaxTaskLogBytes int `key:"max_task_log_bytes" default:"67108864" min:"-1"`
	// Python is the interpreter of Python tasks: a name or a path. Default python3.
	Python string `key:"python" default:"python3"`
	// PythonZygotes is how many Python processes are kept ready to start tasks faster;
	// 0 starts one for each task. Default 2.
	PythonZygotes int `key:"python_zygotes" default:"2" min:"0"`
	// WorkerToken lets workers on other machines pull tasks from this server, and is
	// what such a worker presents; at least 16 characters. Without one nobody may.
	// Default (empty).
	WorkerToken string `key:"worker_token" default:"" sensitive:"true"`
	// TrustedProxies are the addresses (192.0.2.7, 10.0.0.0/8) of proxies whose
	// X-Forwarded-For and X-Forwarded-Proto are believed. Default (empty).
	TrustedProxies []string `key:"trusted_proxies" default:""`
	// RecordDecisions keeps the inputs of every scheduling step, for `gust replay`.
	// Default True.
	RecordDecisions bool `key:"record_decisions" default:"True"`
}
