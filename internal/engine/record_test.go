package engine_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/worker"
)

// recorded replaces the harness' engine by one that records; the records are
// read back from their stored form.
func recorded(t *testing.T, h *enginetest.Harness) func() []engine.Record {
	t.Helper()
	var lines [][]byte
	h.Engine.Close()
	h.Engine = engine.New(engine.Options{Store: h.Store, Submitter: h.Queue, Config: h.Config, Now: h.Clock.Now, Records: func(r engine.Record) {
		b, err := json.Marshal(r)
		if err != nil {
			t.Error(err)
		}
		lines = append(lines, b)
	}})
	h.Backend = engine.NewBackend(h.Engine, nil, nil, nil)
	return func() []engine.Record {
		out := make([]engine.Record, len(lines))
		for i, b := range lines {
			if err := json.Unmarshal(b, &out[i]); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
}

func replay(t *testing.T, h *enginetest.Harness, recs []engine.Record) (out []engine.Replayed) {
	t.Helper()
	p := &engine.Replay{Graph: func(hash string) (*scheduler.Graph, error) { return h.Engine.Graph(t.Context(), hash) }}
	for _, r := range recs {
		s, err := p.Step(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// mixed runs a DAG that retries, expands, fails and is cleared.
func mixed(t *testing.T, h *enginetest.Harness) {
	t.Helper()
	register(t, h, enginetest.DAG{ID: "d", Tasks: []enginetest.Task{
		{ID: "list"},
		{ID: "work", ExpandOver: "list", Fields: map[string]any{"retries": 1, "retry_delay": 60.0}},
		{ID: "sum", Upstream: []string{"work"}, Fields: map[string]any{"trigger_rule": "all_done"}},
		{ID: "after", Upstream: []string{"work"}},
	}})
	k := trigger(t, h, "d", "r")
	pick := func(d worker.Dispatch, tc *worker.TaskContext) enginetest.Outcome {
		switch {
		case d.Key.TaskID == "list":
			return enginetest.Success([]int{1, 2, 3})
		case d.Key.TaskID == "work" && d.Key.MapIndex == 1:
			return enginetest.Fail()
		}
		return enginetest.Success(nil)
	}
	runAll(t, h, pick)
	h.Clock.Advance(2 * time.Minute)
	if _, err := h.Engine.Tick(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	runAll(t, h, pick)
	wantStates(t, h, k, airflow.RunFailed, map[string]airflow.TIState{"work[1]": airflow.TIFailed, "sum": airflow.TISuccess, "after": airflow.TIUpstreamFailed})
	if _, err := h.Engine.Clear(t.Context(), k, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{OnlyFailed: true, ResetDagRun: true}}); err != nil {
		t.Fatal(err)
	}
	runAll(t, h, enginetest.Succeed)
	wantStates(t, h, k, airflow.RunSuccess, map[string]airflow.TIState{"work[1]": airflow.TISuccess, "after": airflow.TISuccess})
}

func TestReplayDecidesTheSame(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		recs := recorded(t, h)
		mixed(t, h)
		interventions, states := 0, 0
		all := replay(t, h, recs())
		for i, s := range all {
			if s.Header != nil {
				states++
			}
			if strings.Contains(s.Note, "operator") {
				interventions++
				continue
			}
			if !s.Decided || s.Differs || s.Note != "" {
				t.Errorf("step %d %v: decided %t, differs %t, note %q\nrecorded %+v\nnow      %+v %s %s", i, s.Events, s.Decided, s.Differs, s.Note, s.Transitions, s.Now, s.NowRun, s.NowReason)
			}
		}
		if interventions != 1 || states != 3 || len(all) < 10 {
			t.Errorf("%d steps, %d interventions, %d states: expected some, 1, and 3 (at the start, when the ended run is loaded again, after the intervention)", len(all), interventions, states)
		}
	})
}

func TestReplaySeesWhatDiffersAndWhatIsMissing(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		recs := recorded(t, h)
		mixed(t, h)

		changed := recs()
		for i := range changed {
			for j := range changed[i].Transitions {
				if tr := &changed[i].Transitions[j]; tr.TaskID == "after" && tr.To == airflow.TIUpstreamFailed {
					tr.To = airflow.TISkipped // as another program would have decided
				}
			}
		}
		differ := 0
		for _, s := range replay(t, h, changed) {
			if s.Differs {
				differ++
			}
		}
		if differ != 1 {
			t.Errorf("%d steps differ, want the one that was changed", differ)
		}

		whole := recs()
		lost := append(append([]engine.Record(nil), whole[:3]...), whole[4:]...)
		all := replay(t, h, lost)
		if s := all[3]; s.Decided || s.Differs || !strings.Contains(s.Note, "lost") {
			t.Errorf("after a gap: %+v", s)
		}
		if s := all[len(all)-1]; !s.Decided || s.Differs {
			t.Errorf("after the next recorded state: decided %t, differs %t, %q", s.Decided, s.Differs, s.Note)
		}
	})
}
