package operator

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// afterDelta: the end of the run's data interval (run_after without one) + delta.
func afterDelta(t *taskrunner.Task) (time.Time, error) {
	if !t.Args.Has("delta") {
		t.Args.Reject("delta", "is missing: give a timedelta")
	}
	d := t.Args.Seconds("delta", 0)
	base := t.Run.RunAfter
	if t.Run.LogicalDate != nil && t.Run.DataIntervalEnd != nil {
		base = *t.Run.DataIntervalEnd
	}
	return base.Add(d).UTC(), t.Args.Err()
}

func atDateTime(t *taskrunner.Task) (time.Time, error) {
	at := t.Args.Time("target_time")
	if at.IsZero() && t.Args.Err() == nil {
		t.Args.Reject("target_time", "is missing: give a datetime or ISO 8601 text")
	}
	return at, t.Args.Err()
}

// atTimeOfDay: today's target_time in the DAG's zone; today is when the try started.
func atTimeOfDay(t *taskrunner.Task) (time.Time, error) {
	tod, err := timeOfDay(t.Args.Get("target_time"))
	if err != nil {
		return time.Time{}, fmt.Errorf("target_time: %w", err)
	}
	start := t.StartDate
	if start.IsZero() {
		start = t.Now()
	}
	return tod.on(start.In(dagZone(t))).UTC(), nil
}

// afterWait is WaitSensor: time_to_wait (minutes if it is a number) after the
// try's start. It has no timeout of its own.
func afterWait(t *taskrunner.Task) (time.Time, error) {
	if n, ok := serde.Float(t.Args.Get("time_to_wait")); ok {
		return t.StartDate.Add(time.Duration(n * float64(time.Minute))), nil
	}
	if !t.Args.Has("time_to_wait") {
		t.Args.Reject("time_to_wait", "is missing: give a timedelta or minutes")
	}
	return t.StartDate.Add(t.Args.Seconds("time_to_wait", 0)), t.Args.Err()
}

// dagZone is the DAG's time zone, UTC if it is unknown here.
func dagZone(t *taskrunner.Task) *time.Location {
	name := t.DAG.Timezone
	if secs, err := strconv.Atoi(name); err == nil {
		return time.FixedZone(name, secs)
	}
	if l, err := time.LoadLocation(name); err == nil {
		return l
	}
	return time.UTC
}

// clockTime is a time of day.
type clockTime struct{ h, m, s, ns int }

func (c clockTime) on(day time.Time) time.Time {
	y, mo, d := day.Date()
	return time.Date(y, mo, d, c.h, c.m, c.s, c.ns, day.Location())
}

// timeOfDay reads a datetime.time: text HH:MM[:SS[.ffffff]], or a tagged value.
func timeOfDay(v jinja.Value) (clockTime, error) {
	var text string
	switch x := v.(type) {
	case string:
		text = x
	case *jinja.Time:
		text = x.PyStr()
	case *serde.Opaque:
		text = strings.Trim(string(x.Raw), `"`)
	default:
		return clockTime{}, fmt.Errorf("expected a time of day such as 08:30:00")
	}
	for _, f := range []string{"15:04:05.999999999", "15:04:05", "15:04"} {
		if p, err := time.Parse(f, text); err == nil {
			return clockTime{p.Hour(), p.Minute(), p.Second(), p.Nanosecond()}, nil
		}
	}
	return clockTime{}, fmt.Errorf("%q is no time of day: expected HH:MM:SS", text)
}

var weekDays = map[string]time.Weekday{
	"MONDAY": time.Monday, "TUESDAY": time.Tuesday, "WEDNESDAY": time.Wednesday, "THURSDAY": time.Thursday,
	"FRIDAY": time.Friday, "SATURDAY": time.Saturday, "SUNDAY": time.Sunday,
}

// weekDaysOf reads week_day: names in any case, one or several.
func weekDaysOf(t *taskrunner.Task) map[time.Weekday]bool {
	out := map[time.Weekday]bool{}
	for _, n := range t.Args.Strings("week_day") {
		name := strings.ToUpper(strings.TrimPrefix(n, "WeekDay."))
		d, ok := weekDays[name]
		if !ok {
			t.Args.Reject("week_day", "Invalid Week Day passed: %q. Expected Monday to Sunday", n)
		}
		out[d] = true
	}
	if len(out) == 0 && t.Args.Err() == nil {
		t.Args.Reject("week_day", "is missing: give one or several of Monday to Sunday")
	}
	return out
}

func logicalOrRunAfter(t *taskrunner.Task) time.Time {
	if t.Run.LogicalDate != nil {
		return t.Run.LogicalDate.UTC()
	}
	return t.Run.RunAfter.UTC()
}

func pokeDayOfWeek(_ context.Context, t *taskrunner.Task) (poked, error) {
	days := weekDaysOf(t)
	if err := t.Args.Err(); err != nil {
		return poked{}, err
	}
	now := t.Now()
	if t.Args.Bool("use_task_logical_date", false) {
		now = logicalOrRunAfter(t)
	}
	t.Log.Info(fmt.Sprintf("Poking until weekday is in %v, Today is %s", t.Args.Strings("week_day"), now.Weekday()))
	return poked{done: days[now.Weekday()]}, nil
}

func branchDayOfWeek(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	days := weekDaysOf(t)
	now := t.Now().In(dagZone(t))
	if t.Args.Bool("use_task_logical_date", false) {
		now = logicalOrRunAfter(t)
	}
	return branchOnTruth(t, days[now.Weekday()])
}

// branchOnTruth follows follow_task_ids_if_true or follow_task_ids_if_false.
func branchOnTruth(t *taskrunner.Task, truth bool) (*taskrunner.Result, error) {
	name := "follow_task_ids_if_false"
	if truth {
		name = "follow_task_ids_if_true"
	}
	v := t.Args.Get(name)
	ids := t.Args.Strings(name)
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	value, err := taskrunner.XComValue(v)
	if err != nil {
		return nil, err
	}
	return branchResult(t, ids, value)
}

func branchDateTime(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	now := t.Now()
	if t.Args.Bool("use_task_logical_date", false) {
		now = logicalOrRunAfter(t)
	}
	lower, err := bound(t, "target_lower", now)
	if err != nil {
		return nil, err
	}
	upper, err := bound(t, "target_upper", now)
	if err != nil {
		return nil, err
	}
	if lower == nil && upper == nil {
		return nil, fmt.Errorf("Both target_upper and target_lower are None. At least one must be defined to be compared to the current datetime")
	}
	if lower != nil && upper != nil && upper.at.Before(lower.at) && (lower.clock || upper.clock) {
		upper.at = upper.at.AddDate(0, 0, 1) // over midnight
	}
	in := !(upper != nil && upper.at.Before(now)) && !(lower != nil && lower.at.After(now))
	return branchOnTruth(t, in)
}

type dateBound struct {
	at    time.Time
	clock bool // given as a time of day
}

func bound(t *taskrunner.Task, name string, now time.Time) (*dateBound, error) {
	v := t.Args.Get(name)
	if v == nil {
		return nil, nil
	}
	if d, ok := v.(*jinja.DateTime); ok {
		at := d.Time()
		if tz, _, _ := d.Attr("tzinfo"); tz == nil { // a naive datetime is in the DAG's zone
			at = time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), dagZone(t))
		}
		return &dateBound{at: at}, nil
	}
	if s, ok := v.(string); ok {
		if at, err := taskrunner.ParseTime(s); err == nil {
			return &dateBound{at: at}, nil
		}
	}
	tod, err := timeOfDay(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, dagZone(t))
	return &dateBound{at: tod.on(day), clock: true}, nil
}

// latestOnly skips direct downstream unless the run is the newest one.
func latestOnly(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	all := func(why string) (*taskrunner.Result, error) {
		t.Log.Info(why)
		return branchResult(t, direct(t), stringsXCom(direct(t)))
	}
	if t.Run.RunType == "manual" {
		return all("Manually triggered DAG_Run: allowing execution to proceed.")
	}
	left := logicalOrRunAfter(t)
	if t.Run.DataIntervalStart != nil {
		left = *t.Run.DataIntervalStart
	}
	_, right, ok, err := t.Backend().NextDataInterval(ctx, t.DAG, t.Run)
	if err != nil {
		return nil, fmt.Errorf("next run of the timetable: %w", err)
	}
	switch {
	case !ok:
		return all("Last scheduled execution: allowing execution to proceed.")
	case left.Equal(right):
		return all("Zero-length interval, treating current run as latest.")
	}
	now := t.Now()
	t.Log.Info(fmt.Sprintf("Checking latest only with left_window: %s right_window: %s now: %s", taskrunner.PyISO(left), taskrunner.PyISO(right), taskrunner.PyISO(now)))
	if now.After(left) && !now.After(right) {
		return all("Latest, allowing execution to proceed.")
	}
	t.Log.Info("Not latest execution, skipping downstream.")
	return branchResult(t, nil, stringsXCom([]string{}))
}
