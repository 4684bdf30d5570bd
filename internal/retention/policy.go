// Package retention removes what nobody needs any more: finished runs with their
// task instances, XComs and logs, audit and asset events, DAG documents that no
// version or run refers to, and bundle snapshots.
//
//	Policy, Plan   what is too old: pure decisions
//	Cleaner        reads, archives and deletes it; may be interrupted and repeated
//
// Nothing of an unfinished run is ever removed, and each DAG keeps its newest
// run that was not triggered by hand, as Airflow's `db clean` does, so that
// depends_on_past and previous-run lookups go on.
package retention

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/config"
)

// Days is how many days data are kept after a run ended, or a log was last
// written; 0 keeps them.
type Days struct {
	DagRuns int `json:"dag_runs"`
	Logs    int `json:"logs"`
	XComs   int `json:"xcoms"`
}

// Policy is the retention of an installation.
type Policy struct {
	Default Days
	// PerDag has the DAGs with a retention of their own.
	PerDag map[airflow.DagID]Days
}

// PolicyOf is the policy that the settings ask for: [gust] …_retention_days and
// retention_overrides.
func PolicyOf(c *config.Config) Policy {
	days := func(dag airflow.DagID) Days {
		r, err := c.Retention(dag)
		if err != nil {
			return Days{} // Load has refused such settings
		}
		return Days{DagRuns: r.DagRuns, Logs: r.Logs, XComs: r.XComs}
	}
	p := Policy{Default: days(""), PerDag: map[airflow.DagID]Days{}}
	for _, d := range c.RetentionDags() {
		p.PerDag[d] = days(d)
	}
	return p
}

// Off reports whether nothing is ever too old.
func (p Policy) Off() bool {
	for _, d := range p.PerDag {
		if d != (Days{}) {
			return false
		}
	}
	return p.Default == Days{}
}

// Of returns the retention of a DAG.
func (p Policy) Of(dag airflow.DagID) Days {
	if d, ok := p.PerDag[dag]; ok {
		return d
	}
	return p.Default
}

// Before returns the date before which data of a table are too old for a DAG,
// zero if they are kept. dag "" stands for DAGs without a retention of their own.
func (p Policy) Before(t Table, dag airflow.DagID, now time.Time) time.Time {
	d, days := p.Of(dag), 0
	switch t {
	case DagRun:
		days = d.DagRuns
	case TaskLog:
		days = d.Logs
	case XCom:
		days = d.XComs
	}
	if days <= 0 {
		return time.Time{}
	}
	return now.AddDate(0, 0, -days)
}

// Request is what the policy asks for at a time; nil stands for all tables the
// policy is about.
func (p Policy) Request(now time.Time, tables []Table) Request {
	if tables == nil {
		tables = []Table{DagRun, XCom, TaskLog, DagVersion, Bundle}
	}
	return Request{Tables: tables, Before: func(t Table, dag airflow.DagID) time.Time { return p.Before(t, dag, now) }}
}

// Table is a kind of data, by the name of Airflow's table where there is one.
type Table string

// The tables, in the order in which they are cleaned.
const (
	DagRun       Table = "dag_run"
	TaskInstance Table = "task_instance"
	XCom         Table = "xcom"
	TaskLog      Table = "task_log" // files of task logs; not a table of Airflow
	Log          Table = "log"      // the audit log
	AssetEvent   Table = "asset_event"
	DagVersion   Table = "dag_version" // documents that no version or run refers to
	Bundle       Table = "dag_bundle"  // snapshots that no version or run refers to
)

// Tables are all tables in order.
var Tables = []Table{DagRun, TaskInstance, XCom, TaskLog, Log, AssetEvent, DagVersion, Bundle}

// EmptyTables are tables of Airflow that Gust has nothing of, or cleans by
// itself: naming them is no mistake.
var EmptyTables = map[string]string{
	"import_error":                  "an import error lasts as long as its file is broken",
	"job":                           "there are no job rows",
	"dag":                           "DAGs are removed with gust dags delete",
	"task_instance_history":         "earlier tries go with task_instance",
	"task_reschedule":               "reschedules are part of task_instance",
	"callback_request":              "callbacks are not queued in tables",
	"callback":                      "callbacks are not queued in tables",
	"celery_taskmeta":               "there is no Celery",
	"celery_tasksetmeta":            "there is no Celery",
	"trigger":                       "waiting triggers are part of their run",
	"deadline":                      "deadlines are part of their run",
	"session":                       "there are no sessions",
	"sla_miss":                      "there are no SLAs in Airflow 3",
	"_xcom_archive":                 "there is no such table",
	"asset_dag_run_queue":           "waiting asset updates are kept",
	"rendered_task_instance_fields": "rendered fields are part of task_instance",
}

// Cutoffs are dates before which parts of runs are too old; zero keeps them.
type Cutoffs struct {
	Runs  time.Time // the whole run
	Tasks time.Time // rows, history and XComs of task instances
	XComs time.Time
}

// Latest returns the last of the dates.
func (c Cutoffs) Latest() time.Time {
	t := c.Runs
	for _, o := range []time.Time{c.Tasks, c.XComs} {
		if o.After(t) {
			t = o
		}
	}
	return t
}

// RunPlan says what to remove of a DAG's runs. A run is in one of the lists.
type RunPlan struct {
	Remove []airflow.DagRun // whole
	Tasks  []airflow.DagRun // their task instance rows
	XComs  []airflow.DagRun // their XComs
}

// PlanRuns decides about runs of one DAG, which are given by ascending run_after.
// A run is as old as its end; newest is the DAG's newest run that was not
// triggered by hand, "" if there is none.
func PlanRuns(runs []airflow.DagRun, newest airflow.RunID, c Cutoffs) RunPlan {
	var p RunPlan
	for _, r := range runs {
		switch {
		case !r.State.Finished() || r.EndDate == nil:
		case r.EndDate.Before(c.Runs) && r.RunID != newest:
			p.Remove = append(p.Remove, r)
		case r.EndDate.Before(c.Tasks):
			p.Tasks = append(p.Tasks, r)
		case r.EndDate.Before(c.XComs):
			p.XComs = append(p.XComs, r)
		}
	}
	return p
}

// Garbage is a document that nobody referred to when it was last looked at.
type Garbage struct {
	Puts  int64     `json:"puts"` // store.DocumentPuts then
	Since time.Time `json:"since"`
}

// PlanDocuments decides about documents: those that nobody refers to and that
// nobody has put since they were first seen so, at least grace ago, are removed;
// the others that nobody refers to are remembered. A document is put before the
// version that refers to it, so one look is not enough.
func PlanDocuments(unreferenced map[string]int64, seen map[string]Garbage, now time.Time, grace time.Duration) (remove []string, remember map[string]Garbage) {
	remember = map[string]Garbage{}
	for hash, puts := range unreferenced {
		g, ok := seen[hash]
		switch {
		case !ok || g.Puts != puts:
			remember[hash] = Garbage{puts, now}
		case now.Sub(g.Since) < grace:
			remember[hash] = g
		default:
			remove = append(remove, hash)
		}
	}
	return remove, remember
}
