package emusite

import (
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsmeter/awslabel"
)

// Legs are the parts of hops: from the end of one task's work to the start of the
// next one's.
type Legs struct {
	Finish, ToScheduler, Step, ToWorker, Claim, Hop awsemu.Spread
}

// String renders one line per leg.
func (l Legs) String() string {
	var b strings.Builder
	for _, x := range []struct {
		name string
		s    awsemu.Spread
	}{
		{"worker: report stored", l.Finish}, {"queue: report to scheduler", l.ToScheduler}, {"scheduler: step committed", l.Step},
		{"queue: dispatch to worker", l.ToWorker}, {"worker: claimed", l.Claim}, {"hop", l.Hop},
	} {
		fmt.Fprintf(&b, "%-28s %s\n", x.name, x.s)
	}
	return b.String()
}

// Hop adds the hop from a to b, which ran once each.
func (s *Site) Hop(l *Legs, a, b airflow.TaskInstanceKey) error {
	var report, dispatch *awsemu.Message
	la, lb := awslabel.Instance(a), awslabel.Instance(b)
	for _, m := range s.Cloud.Trace.Messages {
		switch {
		case m.Queue == Events && m.Label == la && report == nil:
			report = m
		case m.Queue != Events && m.Queue != Timers && m.Label == lb && dispatch == nil:
			dispatch = m
		}
	}
	s.mu.Lock()
	end, ended := s.Ends[a]
	start, started := s.Starts[b]
	s.mu.Unlock()
	if report == nil || dispatch == nil || !ended || !started {
		return fmt.Errorf("no hop from %s to %s: report %v, dispatch %v, ended %v, started %v", a, b, report != nil, dispatch != nil, ended, started)
	}
	add := func(s *awsemu.Spread, d time.Duration) { *s = append(*s, d) }
	add(&l.Finish, report.Sent.Sub(end))
	add(&l.ToScheduler, report.Handled.Sub(report.Sent))
	add(&l.Step, dispatch.Sent.Sub(report.Handled))
	add(&l.ToWorker, dispatch.Handled.Sub(dispatch.Sent))
	add(&l.Claim, start.Sub(dispatch.Handled))
	add(&l.Hop, start.Sub(end))
	return nil
}
