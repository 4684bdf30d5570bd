package dagdraw

import (
	"fmt"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
)

// Gantt draws when the task instances of a run ran, the first to start on top.
// Instances that never started follow. now is the end of those that still run.
func Gantt(tis []airflow.TaskInstance, now time.Time, width int, color bool) string {
	if width < 40 {
		width = 100
	}
	rows := append([]airflow.TaskInstance(nil), tis...)
	sort.SliceStable(rows, func(i, j int) bool {
		a, b := rows[i].StartDate, rows[j].StartDate
		if a == nil || b == nil {
			return a != nil
		}
		return a.Before(*b)
	})
	var from, to time.Time
	names, end := 0, func(t airflow.TaskInstance) time.Time {
		if t.EndDate != nil {
			return *t.EndDate
		}
		return now
	}
	for _, t := range rows {
		names = max(names, utf8.RuneCountInString(airflow.TIName(t.TaskID, t.MapIndex)))
		if t.StartDate == nil {
			continue
		}
		if from.IsZero() || t.StartDate.Before(from) {
			from = *t.StartDate
		}
		if e := end(t); e.After(to) {
			to = e
		}
	}
	names = min(names, width/3)
	const right = 26 // duration and state
	bar := max(width-names-right, 10)
	total := to.Sub(from)
	scale := func(t time.Time) int {
		if total <= 0 {
			return 0
		}
		return min(int(float64(bar)*float64(t.Sub(from))/float64(total)), bar)
	}
	var b strings.Builder
	for _, t := range rows {
		name := airflow.TIName(t.TaskID, t.MapIndex)
		if r := []rune(name); len(r) > names {
			name = string(r[:names-1]) + "…"
		}
		fmt.Fprintf(&b, "%s%s ", name, strings.Repeat(" ", names-utf8.RuneCountInString(name)))
		duration, line := "", strings.Repeat(" ", bar)
		if t.StartDate != nil {
			x1, x2 := scale(*t.StartDate), scale(end(t))
			x1 = min(x1, bar-1)
			x2 = max(x2, x1+1)
			mark := strings.Repeat("█", x2-x1)
			if color {
				mark = stateColor(t.State) + mark + "\x1b[0m"
			}
			line = strings.Repeat("·", x1) + mark + strings.Repeat(" ", bar-x2)
			duration = Duration(end(t).Sub(*t.StartDate))
		}
		state := t.State.String()
		if color {
			state = stateColor(t.State) + state + "\x1b[0m"
		}
		if t.TryNumber > 1 {
			state += fmt.Sprintf(" (try %d)", t.TryNumber)
		}
		fmt.Fprintf(&b, "%s %8s %s\n", line, duration, state)
	}
	if !from.IsZero() {
		fmt.Fprintf(&b, "%s 0%s%s\n", strings.Repeat(" ", names), strings.Repeat(" ", max(bar-1-len(Duration(total)), 0)), Duration(total))
	}
	return b.String()
}

// Duration renders a duration shortly: 12ms, 3.4s, 2m05s, 1h02m.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
