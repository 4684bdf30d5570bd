package dagspec

import (
	"encoding/json"
	"strings"
	"time"
)

// Config are the configuration values that a DAG and its tasks take their
// defaults from, by Airflow's names. The zero value is Airflow's defaults. It
// holds plain values only: what loads a file again when the configuration
// changes is its JSON.
type Config struct {
	// MaxActiveRuns and MaxActiveTasks are [core] max_active_runs_per_dag and
	// max_active_tasks_per_dag. 0 means 16.
	MaxActiveRuns, MaxActiveTasks int
	// CatchupByDefault is [scheduler] catchup_by_default.
	CatchupByDefault bool
	// MaxConsecutiveFailedDagRuns is [core] max_consecutive_failed_dag_runs_per_dag;
	// it counts for DAGs that give none and for those that give 0.
	MaxConsecutiveFailedDagRuns int
	// DefaultTimezone is [core] default_timezone, an IANA name: the zone of DAGs
	// without a start_date and of tasks' dates without a zone. "" means UTC. The
	// start_date of a DAG and of default_args does not depend on it: dag-factory
	// reads those in the DAG's timezone key, else in UTC.
	DefaultTimezone string
	// CreateCronDataIntervals and CreateDeltaDataIntervals are of [scheduler]. As in
	// Airflow 3.3 the first decides for plain timedeltas as well.
	CreateCronDataIntervals, CreateDeltaDataIntervals bool

	// TaskRetries is [core] default_task_retries.
	TaskRetries int
	// TaskRetryDelay is [core] default_task_retry_delay. 0 means 300 s, negative none.
	TaskRetryDelay time.Duration
	// TaskWeightRule is [core] default_task_weight_rule. "" means downstream.
	TaskWeightRule string
	// TaskExecutionTimeout is [core] default_task_execution_timeout. 0 means none.
	TaskExecutionTimeout time.Duration
	// Owner, Queue and Deferrable are of [operators]: "" means airflow and default.
	Owner, Queue string
	Deferrable   bool
	// SensorTimeout is [sensors] default_timeout. 0 means 7 days, negative none:
	// the first poke decides.
	SensorTimeout time.Duration
	// NoEmailOnRetry and NoEmailOnFailure are [email] default_email_on_retry and
	// default_email_on_failure set to False.
	NoEmailOnRetry, NoEmailOnFailure bool
}

func (c Config) withDefaults() Config {
	if c.MaxActiveRuns == 0 {
		c.MaxActiveRuns = 16
	}
	if c.MaxActiveTasks == 0 {
		c.MaxActiveTasks = 16
	}
	return c
}

// defaultZone is the zone of what has none.
func (l *loader) defaultZone() (*timezone, error) {
	if l.cfg.DefaultTimezone == "" {
		return utcZone, nil
	}
	z, err := l.loadZone(l.cfg.DefaultTimezone)
	if err != nil {
		return utcZone, pyErr("ValueError", "[core] default_timezone: %v", err)
	}
	return z, nil
}

// configured gives the task what the configuration says, where neither the task
// nor default_args do: the defaults of the constructor's signature. A class that
// declares an argument itself has a default of its own.
func (t *task) configured(defs *dict) {
	c := t.d.loader.cfg
	given := func(name string) bool {
		return t.kwargs.find(name) >= 0 || defs.find(name) >= 0 || t.expand != nil && t.expand.find(name) >= 0
	}
	base := func(name string, v value) {
		if _, own := t.class.AttrValues[name]; !own && t.class.Param(name) == nil && !given(name) {
			t.kwargs.put(name, v)
		}
	}
	// argument fills an argument whose own default is what the setting changes.
	argument := func(name, usual string, v value) {
		if p := t.class.Param(name); p != nil && (len(p.Default) == 0 || sameNumber(p.Default, usual)) && !given(name) {
			t.kwargs.put(name, v)
		}
	}
	if c.Owner != "" && c.Owner != "airflow" {
		base("owner", c.Owner)
	}
	if c.Queue != "" && c.Queue != "default" {
		base("queue", c.Queue)
	}
	if c.TaskWeightRule != "" && c.TaskWeightRule != "downstream" {
		base("weight_rule", c.TaskWeightRule)
	}
	if c.TaskRetries != 0 {
		base("retries", int64(c.TaskRetries))
	}
	if c.TaskRetryDelay != 0 && c.TaskRetryDelay != 300*time.Second {
		base("retry_delay", deltaOf(max(c.TaskRetryDelay, 0)))
	}
	if c.TaskExecutionTimeout > 0 {
		base("execution_timeout", deltaOf(c.TaskExecutionTimeout))
	}
	if c.NoEmailOnRetry {
		base("email_on_retry", false)
	}
	if c.NoEmailOnFailure {
		base("email_on_failure", false)
	}
	if c.Deferrable {
		argument("deferrable", "false", true)
	}
	if c.SensorTimeout != 0 && c.SensorTimeout != 7*24*time.Hour && t.class.Sensor {
		argument("timeout", "604800", seconds(max(c.SensorTimeout, 0)))
	}
}

// sameNumber compares JSON scalars, 604800 with 604800.0.
func sameNumber(raw json.RawMessage, usual string) bool {
	s := strings.TrimSuffix(strings.TrimSpace(string(raw)), ".0")
	return s == usual || s == "null"
}

// seconds is a whole number where it can be one, as an author would write it.
func seconds(d time.Duration) value {
	if d%time.Second == 0 {
		return int64(d / time.Second)
	}
	return d.Seconds()
}

func deltaOf(d time.Duration) *timedelta {
	t, _ := newTimedelta(0, int64(d/time.Second), int64(d%time.Second/time.Microsecond))
	return t
}
