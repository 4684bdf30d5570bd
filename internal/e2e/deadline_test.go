package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
)

// TestDeadlines checks that a missed deadline fires its callback, once: for a run
// that is still running, that has failed, and that has not even started.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	line := func(r *oneRun, state, kwargs string) string {
		return fmt.Sprintf(`["deadline", "%s", "%s", "%s", %s`, r.key.DagID, r.key.RunID, state, kwargs)
	}
	late := shared.trigger(t, "deadline_late", nil)
	met := shared.trigger(t, "deadline_met", nil)
	ko := shared.trigger(t, "deadline_failed", nil)
	first := shared.trigger(t, "deadline_queued", func(o *engine.TriggerOptions) { o.Conf = json.RawMessage(`{"wait": 1}`) })
	first.until("t", airflow.TIRunning)
	second := shared.trigger(t, "deadline_queued", nil)

	late.callbacks(fmt.Sprintf(`["deadline", "deadline_late", "%s", `, late.key.RunID), 2)
	late.callbacks(line(late, "running", `{"after": "0:00:01", "level": "2"}`), 1)
	late.ends(success, "slow=success").callbacks("wrong deadline_late", 0)
	eventually(t, "the webhook", func() bool { return len(hook("deadline")) == 1 })
	if want := fmt.Sprintf(`{"at":"%s+00:00","run":"%s"}`, late.info().LogicalDate.Add(time.Minute).Format("2006-01-02T15:04:05"), late.key.RunID); hook("deadline")[0] != want {
		t.Errorf("webhook %s, want %s", hook("deadline")[0], want)
	}
	second.callbacks(line(second, "queued", "{}"), 1)
	write(t, filepath.Join(scratch, "deadline_go"), "")
	first.ends(success, "t=success").callbacks(line(first, "running", "{}"), 1)
	second.ends(success, "t=success")
	ko.ends(failed, "t=failed").callbacks(line(ko, "failed", "{}"), 1)
	met.ends(success, "t=success")
	time.Sleep(time.Until(met.info().QueuedAt.Add(3500 * time.Millisecond)))
	b, err := os.ReadFile(filepath.Join(scratch, "callbacks.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for text, n := range map[string]int{string(met.key.RunID): 0, string(second.key.RunID): 1, string(late.key.RunID): 2} {
		if got := strings.Count(string(b), text); got != n {
			t.Errorf("%s: %d callbacks, want %d", text, got, n)
		}
	}
}
