package uiapi

import (
	"net/http"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// instance is a task instance as lists, Gantt and graph show it.
type instance struct {
	TaskID    airflow.TaskID `json:"task_id"`
	MapIndex  int            `json:"map_index"`
	Label     string         `json:"rendered_map_index,omitempty"`
	State     *string        `json:"state"`
	TryNumber int            `json:"try_number"`
	Operator  string         `json:"operator"`
	Scheduled *time.Time     `json:"scheduled_when"`
	Queued    *time.Time     `json:"queued_when"`
	Start     *time.Time     `json:"start_date"`
	End       *time.Time     `json:"end_date"`
	Duration  *float64       `json:"duration"`
}

type instanceList struct {
	Run       runView        `json:"run"`
	Instances []instance     `json:"instances"`
	Counts    map[string]int `json:"counts"`
	Pending   bool           `json:"pending"`
}

// instances answers all task instances of a run in one call.
func (a *api) instances(r *http.Request) (any, error) {
	m, err := a.dag(r, "task_instance")
	if err != nil {
		return nil, err
	}
	k := store.RunKey{DagID: m.DagID, RunID: airflow.RunID(r.PathValue("run_id"))}
	info, err := a.Store.GetRun(r.Context(), k)
	if err != nil {
		return nil, err
	}
	tis, err := a.Engine.TaskInstances(r.Context(), k)
	if err != nil {
		return nil, err
	}
	out := instanceList{Run: viewOf(info), Instances: make([]instance, len(tis)), Pending: !info.State.Finished()}
	states := make([]airflow.TIState, len(tis))
	for i, ti := range tis {
		states[i] = ti.State
		out.Instances[i] = instance{
			TaskID: ti.TaskID, MapIndex: ti.MapIndex, Label: ti.RenderedMapIndex, State: nameOf(ti.State), TryNumber: ti.TryNumber, Operator: ti.Operator,
			Scheduled: ti.ScheduledWhen, Queued: ti.QueuedWhen, Start: ti.StartDate, End: ti.EndDate, Duration: ti.Duration,
		}
	}
	out.Counts = tally(states)
	return out, nil
}

// nameOf is Airflow's name of a state, nil for none.
func nameOf(s airflow.TIState) *string {
	if s == airflow.TINone {
		return nil
	}
	n := s.String()
	return &n
}

// maxDayRuns bounds what the calendar counts.
const maxDayRuns = 20000

type day struct {
	Date   string         `json:"date"` // YYYY-MM-DD in UTC, by run_after
	Counts map[string]int `json:"counts"`
}

type dayList struct {
	Days      []day `json:"days"`
	Truncated bool  `json:"truncated,omitempty"`
}

// days answers the calendar: runs by day and state between from and to.
func (a *api) days(r *http.Request) (any, error) {
	m, err := a.dag(r, "dag_run")
	if err != nil {
		return nil, err
	}
	from, err := moment(r, "from")
	if err != nil {
		return nil, err
	}
	to, err := moment(r, "to")
	if err != nil {
		return nil, err
	}
	if from == nil || to == nil {
		return nil, invalid("from, to: expected two times such as 2026-01-31T00:00:00Z")
	}
	o := store.ListOptions{From: store.RunsFrom(*from), To: store.RunsUntil(*to), Limit: 1000}
	out := dayList{Days: []day{}}
	for looked := 0; ; {
		page, cursor, err := a.Store.ListRuns(r.Context(), m.DagID, o)
		if err != nil {
			return nil, err
		}
		for _, run := range page {
			date := run.RunAfter.UTC().Format(time.DateOnly)
			if n := len(out.Days); n == 0 || out.Days[n-1].Date != date {
				out.Days = append(out.Days, day{Date: date, Counts: map[string]int{}})
			}
			out.Days[len(out.Days)-1].Counts[string(run.State)]++
		}
		looked += len(page)
		if cursor == "" {
			return out, nil
		}
		if looked >= maxDayRuns {
			out.Truncated = true
			return out, nil
		}
		o.Cursor = cursor
	}
}
