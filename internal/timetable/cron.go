package timetable

import (
	"errors"
	"time"

	"github.com/gustflow/gust/internal/timetable/cron"
)

// presets are the names Airflow replaces by a cron expression, in exactly this
// spelling. Others (@midnight, @Daily) go through to the cron parser.
var presets = map[string]string{
	"@hourly":    "0 * * * *",
	"@daily":     "0 0 * * *",
	"@weekly":    "0 0 * * 0",
	"@monthly":   "0 0 1 * *",
	"@quarterly": "0 0 1 */3 *",
	"@yearly":    "0 0 1 1 *",
}

// cronClock is a cron expression on the wall clock of a zone.
type cronClock struct {
	expression string
	zone       Zone
	schedule   *cron.Schedule
	invalid    error // why the expression did not parse
}

func newCronClock(expression string, zone Zone) cronClock {
	if full, ok := presets[expression]; ok {
		expression = full
	}
	c := cronClock{expression: expression, zone: zone}
	c.schedule, c.invalid = cron.Parse(expression)
	return c
}

// Expression returns the cron expression, presets replaced.
func (c *cronClock) Expression() string { return c.expression }

// Zone returns the zone whose wall clock the expression reads.
func (c *cronClock) Zone() Zone { return c.zone }

// Summary is the expression.
func (c *cronClock) Summary() string { return c.expression }

// Description is the expression in English; see cron.Describe.
func (c *cronClock) Description() string { return cron.Describe(c.expression) }

// Validate reports an expression that does not parse.
func (c *cronClock) Validate(time.Time) error {
	if c.invalid != nil {
		return &Error{Stage: StageValidate, Class: "AirflowTimetableInvalid", Message: c.invalid.Error()}
	}
	return nil
}

// step finds the tick next to t. It is the wall clock's distance when the
// expression covers every hour, else the wall clock's reading.
func (c *cronClock) step(t time.Time, find func(*cron.Schedule, time.Time) (time.Time, error)) (time.Time, error) {
	if c.invalid != nil {
		var syntax *cron.SyntaxError
		if errors.As(c.invalid, &syntax) {
			return time.Time{}, &Error{Class: syntax.Class, Message: syntax.Message}
		}
		return time.Time{}, &Error{Class: "CroniterBadCronError", Message: c.invalid.Error()}
	}
	naive := c.zone.wall(t)
	tick, err := find(c.schedule, naive)
	if err != nil {
		return time.Time{}, &Error{Class: "CroniterBadDateError", Message: err.Error()}
	}
	if c.schedule.CoversEveryHour() {
		sec := t.Unix() + tick.Unix() - naive.Unix()
		return time.Unix(sec, int64(t.Nanosecond()-naive.Nanosecond()+tick.Nanosecond())).UTC(), nil
	}
	return c.zone.instant(tick, 1), nil
}

func (c *cronClock) next(t time.Time) (time.Time, error) { return c.step(t, (*cron.Schedule).Next) }
func (c *cronClock) prev(t time.Time) (time.Time, error) { return c.step(t, (*cron.Schedule).Prev) }

// alignNext returns t if it is a tick, else the next tick.
func (c *cronClock) alignNext(t time.Time) (time.Time, error) {
	next, err := c.next(t)
	if err != nil {
		return next, err
	}
	back, err := c.prev(next)
	if err != nil {
		return back, err
	}
	if back.Equal(t) {
		return t, nil
	}
	return next, nil
}

// alignPrev returns t if it is a tick, else the tick before.
func (c *cronClock) alignPrev(t time.Time) (time.Time, error) {
	prev, err := c.prev(t)
	if err != nil {
		return prev, err
	}
	forward, err := c.next(prev)
	if err != nil {
		return forward, err
	}
	if forward.Equal(t) {
		return t, nil
	}
	return prev, nil
}

// deltaClock is a fixed or calendar distance; every time is one of its ticks.
type deltaClock struct{ delta Delta }

// Delta returns the distance between ticks.
func (d *deltaClock) Delta() Delta { return d.delta }

// Summary is the delta as Python writes it.
func (d *deltaClock) Summary() string { return d.delta.String() }

// Description is empty.
func (d *deltaClock) Description() string { return "" }

// Validate refuses a delta that does not lead forward from now.
func (d *deltaClock) Validate(now time.Time) error { return d.delta.checkPositive(now) }

func (d *deltaClock) next(t time.Time) (time.Time, error) {
	n, err := d.delta.after(t)
	return n.UTC(), err
}

func (d *deltaClock) prev(t time.Time) (time.Time, error) {
	p, err := d.delta.before(t)
	return p.UTC(), err
}

func (d *deltaClock) alignNext(t time.Time) (time.Time, error) { return t, nil }
func (d *deltaClock) alignPrev(t time.Time) (time.Time, error) { return t, nil }

// clock is the part in which the cron and the delta timetables differ.
type clock interface {
	next(time.Time) (time.Time, error)
	prev(time.Time) (time.Time, error)
	alignNext(time.Time) (time.Time, error)
	alignPrev(time.Time) (time.Time, error)
}
