package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// external is what an ExternalTaskSensor watches.
type external struct {
	dag                      airflow.DagID
	tasks                    []airflow.TaskID
	group                    airflow.GroupID
	allowed, skipped, failed []string
	dates                    []time.Time
}

func readExternal(ctx context.Context, t *taskrunner.Task) (external, error) {
	a := t.Args
	x := external{dag: airflow.DagID(a.Required("external_dag_id")), group: airflow.GroupID(a.String("external_task_group_id", ""))}
	for _, id := range a.Strings("external_task_ids") {
		x.tasks = append(x.tasks, airflow.TaskID(id))
	}
	if id := a.String("external_task_id", ""); id != "" {
		if len(x.tasks) > 0 {
			a.Reject("external_task_id", "Only one of `external_task_id` or `external_task_ids` may be provided")
		}
		x.tasks = []airflow.TaskID{airflow.TaskID(id)}
	}
	if x.group != "" && len(x.tasks) > 0 {
		a.Reject("external_task_group_id", "Values for `external_task_group_id` and `external_task_id` or `external_task_ids` can't be set at the same time")
	}
	x.allowed, x.skipped, x.failed = a.Strings("allowed_states"), a.Strings("skipped_states"), a.Strings("failed_states")
	if len(x.allowed) == 0 {
		x.allowed = []string{"success"}
	}
	x.checkStates(a)
	delta := a.Seconds("execution_delta", 0)
	fn := a.Callable("execution_date_fn")
	if fn != nil && a.Has("execution_delta") {
		a.Reject("execution_delta", "Only one of `execution_delta` or `execution_date_fn` may be provided to ExternalTaskSensor; not both.")
	}
	if err := a.Err(); err != nil {
		return x, err
	}
	if fn == nil {
		x.dates = []time.Time{logicalOrRunAfter(t).Add(-delta)}
		return x, nil
	}
	res, err := runPython(ctx, t, taskrunner.PythonCall{Kind: "date_fn", Callable: fn})
	if err != nil {
		return x, err
	}
	v, err := serde.DecodeXCom(res.Value)
	if err != nil {
		return x, err
	}
	items := []jinja.Value{v}
	switch l := v.(type) {
	case *jinja.List:
		items = l.Items
	case *jinja.Tuple:
		items = l.Items
	}
	for _, it := range items {
		switch d := it.(type) {
		case *jinja.DateTime:
			x.dates = append(x.dates, d.Time().UTC())
		case string:
			at, err := taskrunner.ParseTime(d)
			if err != nil {
				return x, fmt.Errorf("execution_date_fn: %w", err)
			}
			x.dates = append(x.dates, at)
		default:
			return x, fmt.Errorf("execution_date_fn must return a datetime or a list of them, got %s", jinja.TypeOf(it).QualName())
		}
	}
	return x, nil
}

// checkStates rejects states that overlap or do not exist for what is watched.
func (x external) checkStates(a *taskrunner.Args) {
	seen := map[string]bool{}
	for _, s := range slices.Concat(x.allowed, x.skipped, x.failed) {
		if seen[s] {
			a.Reject("allowed_states", "Duplicate values provided across allowed_states, skipped_states and failed_states: %q", s)
		}
		seen[s] = true
		var err error
		if len(x.tasks) > 0 || x.group != "" {
			_, err = airflow.ParseTIState(s)
		} else {
			_, err = airflow.ParseDagRunState(s)
		}
		if err != nil {
			a.Reject("allowed_states", "%v", err)
		}
	}
	dup := map[airflow.TaskID]bool{}
	for _, id := range x.tasks {
		if dup[id] {
			a.Reject("external_task_ids", "Duplicate task_ids passed in external_task_ids parameter: %q", id)
		}
		dup[id] = true
	}
}

// count is how many of the watched dates are in one of the states: runs, groups
// all of whose tasks are, or tasks divided by the number of task ids.
func (x external) count(ctx context.Context, t *taskrunner.Task, found map[airflow.RunID]map[string]airflow.TIState, runs []airflow.DagRun, states []string) float64 {
	if len(states) == 0 {
		return 0
	}
	n := 0
	switch {
	case x.group != "":
		for _, tis := range found {
			match := true
			for _, s := range tis {
				match = match && (s == airflow.TINone || slices.Contains(states, s.String()))
			}
			if match {
				n++
			}
		}
		return float64(n)
	case len(x.tasks) > 0:
		for _, tis := range found {
			for _, s := range tis {
				if slices.Contains(states, s.String()) {
					n++
				}
			}
		}
		return float64(n) / float64(len(x.tasks))
	}
	for _, r := range runs {
		if slices.Contains(states, string(r.State)) {
			n++
		}
	}
	return float64(n)
}

func pokeExternalTask(ctx context.Context, t *taskrunner.Task) (poked, error) {
	x, err := readExternal(ctx, t)
	if err != nil {
		return poked{}, err
	}
	dates := make([]string, len(x.dates))
	for i, d := range x.dates {
		dates[i] = taskrunner.PyISO(d)
	}
	t.Log.Info(fmt.Sprintf("Poking for DAG '%s' tasks %v group '%s' on %s ...", x.dag, x.tasks, x.group, strings.Join(dates, ",")))
	var runs []airflow.DagRun
	var found map[airflow.RunID]map[string]airflow.TIState
	tasks := x.tasks
	if x.group != "" {
		d, err := t.Backend().GetDagVersion(ctx, x.dag)
		if err != nil {
			return poked{}, fmt.Errorf("the external DAG %s: %w", x.dag, err)
		}
		ok := false
		d.TaskGroup.Walk(func(g, _ *airflow.TaskGroup) {
			if g.GroupID == x.group {
				ok = true
				g.Walk(func(g, _ *airflow.TaskGroup) {
					for _, c := range g.Children {
						if c.Group == nil {
							tasks = append(tasks, c.TaskID)
						}
					}
				})
			}
		})
		if !ok {
			return poked{}, fmt.Errorf("The external task group %q in DAG %q does not exist.", x.group, x.dag)
		}
	}
	if len(tasks) > 0 {
		found, err = t.Backend().TaskStates(ctx, worker.TaskStatesQuery{DagID: x.dag, TaskIDs: tasks, LogicalDates: x.dates})
	} else {
		runs, err = t.Backend().FindDagRuns(ctx, worker.RunQuery{DagID: x.dag, LogicalDates: x.dates})
	}
	if err != nil {
		return poked{}, fmt.Errorf("states of DAG %s: %w", x.dag, err)
	}
	what := fmt.Sprintf("the external DAG %s", x.dag)
	if len(x.tasks) > 0 {
		what = fmt.Sprintf("some of the external tasks %v in DAG %s", x.tasks, x.dag)
	} else if x.group != "" {
		what = fmt.Sprintf("the external task group %s in DAG %s", x.group, x.dag)
	}
	if x.count(ctx, t, found, runs, x.failed) > 0 {
		if t.Args.Bool("soft_fail", false) {
			return poked{}, &taskrunner.SkipError{Message: "Skipping: " + what + " failed."}
		}
		return poked{}, fmt.Errorf("%s failed", what)
	}
	if x.count(ctx, t, found, runs, x.skipped) > 0 {
		return poked{}, &taskrunner.SkipError{Message: what + " reached a state in our states-to-skip-on list. Skipping."}
	}
	return poked{done: x.count(ctx, t, found, runs, x.allowed) == float64(len(x.dates))}, nil
}

// waitExternalTask defers on what is watched, so that its end wakes the task;
// at is the latest.
func waitExternalTask(t *taskrunner.Task, at time.Time, poke int) error {
	kwargs, err := json.Marshal(pokeState{poke})
	if err != nil {
		return err
	}
	tr := worker.Trigger{Kind: worker.TriggerTasks, At: at, DagID: airflow.DagID(t.Args.String("external_dag_id", ""))}
	for _, id := range t.Args.Strings("external_task_ids") {
		tr.TaskIDs = append(tr.TaskIDs, airflow.TaskID(id))
	}
	if id := t.Args.String("external_task_id", ""); id != "" {
		tr.TaskIDs = append(tr.TaskIDs, airflow.TaskID(id))
	}
	if !t.Args.Has("execution_date_fn") {
		tr.LogicalDates = []time.Time{logicalOrRunAfter(t).Add(-t.Args.Seconds("execution_delta", 0))}
	}
	return &taskrunner.Deferred{Deferral: worker.Deferral{Trigger: tr, NextMethod: "poke", NextKwargs: kwargs}}
}
