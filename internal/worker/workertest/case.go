package workertest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operatorspec"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// LogicalDate is that of the runs made here.
var LogicalDate = time.Date(2026, 3, 1, 20, 5, 0, 0, time.UTC)

// Task describes a task of a test's DAG.
type Task struct {
	ID    string
	Class string
	// Kwargs are the constructor's arguments as JSON.
	Kwargs string
	// Fields are more fields of the serialized task, as JSON.
	Fields     string
	Downstream []string
	Callbacks  map[string][]json.RawMessage
}

// DAG builds a DAG named "d"; fields are more fields of the serialized DAG and
// gust of its extension, each a JSON object or "".
func DAG(t testing.TB, fields, gust string, tasks ...Task) *airflow.DAG {
	t.Helper()
	obj := func(s string) map[string]any {
		m := map[string]any{}
		if s != "" {
			if err := json.Unmarshal([]byte(s), &m); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		return m
	}
	dag := obj(fields)
	dag["dag_id"], dag["fileloc"], dag["relative_fileloc"] = "d", "/d.py", "d.py"
	ext := obj(gust)
	ops := map[string]any{}
	var list []any
	for _, x := range tasks {
		f := obj(x.Fields)
		module, class := x.Class, x.Class
		if i := strings.LastIndexByte(x.Class, '.'); i >= 0 {
			module, class = x.Class[:i], x.Class[i+1:]
		}
		f["task_id"], f["task_type"], f["_task_module"] = x.ID, class, module
		if len(x.Downstream) > 0 {
			f["downstream_task_ids"] = x.Downstream
		}
		if spec, ok := operatorspec.Lookup(x.Class); ok && f["template_fields"] == nil {
			f["template_fields"] = spec.TemplateFields
		}
		list = append(list, map[string]any{"__type": "operator", "__var": f})
		ops[x.ID] = map[string]any{"class": x.Class, "kwargs": obj(x.Kwargs), "callbacks": x.Callbacks}
	}
	dag["tasks"] = list
	ext["operators"] = ops
	doc, err := json.Marshal(map[string]any{"__version": 3, "dag": dag, "gust": ext})
	if err != nil {
		t.Fatal(err)
	}
	d, err := airflow.ParseDAG(doc)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Run is one dispatch to execute.
type Run struct {
	Backend *Backend
	Options taskrunner.Options // Backend, OpenLog and Operators are filled in
	DAG     *airflow.DAG
	Task    string
	// Change adjusts what Claim hands out.
	Change   func(*worker.TaskContext)
	MapIndex *int
	Seq      uint32
}

// Context is what Claim hands out for a task by default: the first try of a
// scheduled run.
func Context(d *airflow.DAG, task string) *worker.TaskContext {
	ld := LogicalDate
	return &worker.TaskContext{
		DAG: d, Task: d.Task(airflow.TaskID(task)),
		Run: airflow.DagRun{DagID: d.DagID, RunID: "r", RunType: airflow.RunTypeScheduled, State: airflow.RunRunning, LogicalDate: &ld,
			DataIntervalStart: &ld, DataIntervalEnd: &ld, RunAfter: ld},
		TryNumber: 1, StartDate: time.Now().UTC(),
	}
}

// Do executes the dispatch and returns its report and log; a nil report with
// the error of Worker.Run.
func (r Run) Do(t testing.TB, ops taskrunner.Resolver) (*worker.Report, string, error) {
	t.Helper()
	if r.Backend == nil {
		r.Backend = NewBackend()
	}
	mi := airflow.Unmapped
	if r.MapIndex != nil {
		mi = *r.MapIndex
	}
	if r.Seq == 0 {
		r.Seq = 1
	}
	d := worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: r.DAG.DagID, RunID: "r", TaskID: airflow.TaskID(r.Task), MapIndex: mi}, DispatchSeq: r.Seq}
	tc := Context(r.DAG, r.Task)
	if tc.Task == nil {
		t.Fatalf("no task %q", r.Task)
	}
	if r.Change != nil {
		r.Change(tc)
	}
	r.Backend.Contexts[d] = tc
	log := &Log{}
	o := r.Options
	o.Backend, o.Operators = r.Backend, ops
	o.OpenLog = func(worker.Dispatch, *worker.TaskContext) (taskrunner.LogSink, error) { return log, nil }
	if o.KilledTaskCleanupTime == 0 {
		o.KilledTaskCleanupTime = 2 * time.Second
	}
	err := taskrunner.New(o).Run(context.Background(), d)
	reports := r.Backend.Reports(d)
	if len(reports) == 0 {
		return nil, log.Text(), err
	}
	return reports[len(reports)-1], log.Text(), err
}

// XCom returns a value of a report, "" if it was not pushed.
func XCom(r *worker.Report, key string) string {
	for _, x := range r.XComs {
		if x.Key == key {
			return string(x.Value)
		}
	}
	return ""
}
