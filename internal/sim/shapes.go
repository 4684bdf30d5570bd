package sim

import (
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine/enginetest"
)

// newTask adds a task with an id that the DAG does not have.
func (d *simDag) newTask(t enginetest.Task, kind taskKind) *enginetest.Task {
	for i := len(d.spec.Tasks); t.ID == "" || d.has(t.ID); i++ {
		t.ID = fmt.Sprintf("t%d", i)
	}
	if t.Fields == nil {
		t.Fields = map[string]any{}
	}
	d.kinds[t.ID] = kind
	d.spec.Tasks = append(d.spec.Tasks, t)
	return &d.spec.Tasks[len(d.spec.Tasks)-1]
}

// lists returns the tasks that return a list to expand over.
func (d *simDag) lists() (out []string) {
	for _, t := range d.spec.Tasks {
		if d.kinds[t.ID] == kindList && t.ExpandOver == "" && t.ExpandLit == 0 && t.Group == "" {
			out = append(out, t.ID)
		}
	}
	return out
}

// addGroup adds a task group, mapped more often than not, and sometimes a task
// below it.
func (w *World) addGroup(sc *Scenario, d *simDag, past bool) {
	g := enginetest.Group{ID: fmt.Sprintf("g%d", len(d.spec.Groups))}
	outside := len(d.spec.Tasks)
	switch lists := d.lists(); {
	case w.chance(0.45):
		g.ExpandLit = 1 + w.rng.IntN(4)
	case len(lists) > 0:
		g.ExpandOver = lists[w.rng.IntN(len(lists))]
	case w.chance(0.7):
		g.ExpandOver = d.newTask(enginetest.Task{}, kindList).ID
		outside++
	}
	mapped := g.ExpandLit > 0 || g.ExpandOver != ""
	if !mapped && len(d.spec.Groups) > 0 && w.chance(0.4) {
		if up := d.spec.Groups[w.rng.IntN(len(d.spec.Groups))]; up.ExpandLit == 0 && up.ExpandOver == "" {
			g.Parent = up.ID
		}
	}
	d.spec.Groups = append(d.spec.Groups, g)
	var in []string
	for n := 2 + w.rng.IntN(3); n > 0; n-- {
		w.addTask(sc, d, pick(w, "layers", "chain"), past)
		t := &d.spec.Tasks[len(d.spec.Tasks)-1]
		t.Group = g.ID
		if mapped { // a task of a mapped group cannot be mapped again
			t.ExpandOver, t.ExpandLit = "", 0
		}
		if len(in) > 0 && w.chance(0.8) {
			t.Upstream = append(without(t.Upstream, in[len(in)-1]), in[len(in)-1])
		}
		in = append(in, t.ID)
	}
	if w.chance(0.7) { // below all of them
		d.newTask(enginetest.Task{Upstream: []string{in[len(in)-1]}, Fields: map[string]any{"trigger_rule": string(pick(w, airflow.RuleAllSuccess, airflow.RuleAllDone, airflow.RuleNoneFailed))}}, kindPlain)
	}
}

// addSetup puts part of a DAG between a setup and its teardown.
func (w *World) addSetup(d *simDag) {
	roots := 1 + w.rng.IntN(3)
	setup := d.newTask(enginetest.Task{Fields: map[string]any{"is_setup": true}}, kindPlain)
	if w.chance(0.4) {
		setup.Fields["retries"], setup.Fields["retry_delay"] = 1, 5.0
	}
	sid := setup.ID
	var work []string
	for n := 1 + w.rng.IntN(4); n > 0; n-- {
		t := enginetest.Task{Upstream: []string{sid}}
		if len(work) >= roots {
			t.Upstream = []string{work[w.rng.IntN(len(work))]}
		}
		work = append(work, d.newTask(t, pick(w, kindPlain, kindPlain, kindShortCircuit, kindSensor)).ID)
	}
	if len(work) > 1 && w.chance(0.7) { // it may be decided by one of them while others still work
		work = append(work, d.newTask(enginetest.Task{Upstream: append([]string(nil), work...)}, kindPlain).ID)
	}
	// Directly above a teardown are its setup and the ends of the work.
	up := []string{sid, work[len(work)-1]}
	if len(work) > 2 && w.chance(0.3) {
		up = append(up, work[0])
	}
	f := map[string]any{"is_teardown": true, "trigger_rule": string(airflow.RuleAllDoneSetupSuccess)}
	if w.chance(0.3) {
		f["on_failure_fail_dagrun"] = true
	}
	d.newTask(enginetest.Task{Upstream: up, Fields: f}, kindPlain)
}

// addWide adds a task of several hundred instances, so that the run's state is
// kept in several chunks.
func (w *World) addWide(sc *Scenario, d *simDag) {
	t := d.newTask(enginetest.Task{ExpandLit: 260 + w.rng.IntN(200)}, kindPlain)
	if w.chance(0.5) {
		t.Fields["retries"], t.Fields["retry_delay"] = 1, 2.0
	}
	id := t.ID
	d.newTask(enginetest.Task{Upstream: []string{id}, Fields: map[string]any{"trigger_rule": string(pick(w, airflow.RuleAllDone, airflow.RuleAllSuccess))}}, kindPlain)
	d.wide, d.spec.Cron = true, "" // a run or two of it will do
	d.spec.Fields["max_active_tasks"], d.spec.Fields["max_active_runs"] = 64+w.rng.IntN(200), 1
	sc.Config.Parallelism = max(sc.Config.Parallelism, 128)
	sc.Config.DefaultPoolSlots = max(sc.Config.DefaultPoolSlots, 128)
}

// addCallbacks draws callbacks of the DAG and its tasks.
func (w *World) addCallbacks(d *simDag) {
	for _, f := range []string{"has_on_success_callback", "has_on_failure_callback"} {
		if w.chance(0.5) {
			d.spec.Fields[f] = true
		}
	}
	for _, t := range d.spec.Tasks {
		for _, f := range []string{"has_on_failure_callback", "has_on_retry_callback"} {
			if w.chance(0.4) {
				t.Fields[f] = true
			}
		}
	}
}

// addDeadlines draws deadline alerts.
func (w *World) addDeadlines(d *simDag) {
	if !w.chance(0.3) {
		return
	}
	var alerts []any
	for n := 1 + w.rng.IntN(2); n > 0; n-- {
		ref := map[string]any{"reference_type": "DagRunQueuedAtDeadline"}
		switch w.rng.IntN(4) {
		case 0:
			ref["reference_type"] = "DagRunLogicalDateDeadline"
		case 1:
			ref = map[string]any{"reference_type": "AverageRuntimeDeadline", "max_runs": 3, "min_runs": 1}
		}
		alerts = append(alerts, map[string]any{"reference": ref, "interval": float64(1 + w.rng.IntN(1800)), "callback": map[string]any{"path": "sim.alert"}})
	}
	d.spec.Fields["deadline"] = alerts
}
