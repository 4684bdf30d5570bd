package memqueue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/queue/memqueue"
	"github.com/gustflow/gust/internal/queue/queuetest"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestSuite(t *testing.T) {
	clock := memqueue.NewManual(epoch)
	q := memqueue.New(clock)
	n := 0
	queuetest.Run(t, queuetest.Harness{
		Queues: q,
		New: func(_ *testing.T, visibility time.Duration, maxReceive int) (string, string) {
			n++
			url, dead := fmt.Sprintf("mem:q%d", n), fmt.Sprintf("mem:q%d-dead", n)
			q.Create(dead, memqueue.Options{})
			o := memqueue.Options{Visibility: visibility}
			if maxReceive > 0 {
				o.DeadLetters, o.MaxReceiveCount = dead, maxReceive
			}
			q.Create(url, o)
			return url, dead
		},
		Missing: "mem:missing",
		Sleep:   clock.Advance,
	})
}

// TestOrderAndIDsAreFixed: with a manual clock two runs are the same, byte for byte.
func TestOrderAndIDsAreFixed(t *testing.T) {
	play := func() string {
		clock := memqueue.NewManual(epoch)
		q := memqueue.New(clock)
		q.Create("q", memqueue.Options{Visibility: 5 * time.Second})
		out := ""
		for i := range 6 {
			if err := q.Send(t.Context(), "q", []queue.Outgoing{{Body: fmt.Sprint(i), Delay: time.Duration(i%3) * time.Second}}); err != nil {
				t.Fatal(err)
			}
		}
		for range 12 {
			got, err := q.Receive(t.Context(), "q", queue.ReceiveOptions{Max: 2})
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprintln(clock.Now().Sub(epoch), got)
			clock.Advance(time.Second)
		}
		return out
	}
	if a, b := play(), play(); a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}

// TestWaitEndsWithTheClock: a long poll ends when its time is over, and a message
// that becomes visible meanwhile ends it at that moment.
func TestWaitEndsWithTheClock(t *testing.T) {
	clock := memqueue.NewManual(epoch)
	q := memqueue.New(clock)
	q.Create("q", memqueue.Options{})
	if err := q.Send(t.Context(), "q", []queue.Outgoing{{Body: "late", Delay: 3 * time.Second}}); err != nil {
		t.Fatal(err)
	}
	type result struct {
		msgs []queue.Message
		at   time.Time
	}
	res := make(chan result)
	receive := func() {
		got, err := q.Receive(t.Context(), "q", queue.ReceiveOptions{Wait: 10 * time.Second})
		if err != nil {
			t.Error(err)
		}
		res <- result{got, clock.Now()}
	}
	go receive()
	r := step(clock, res)
	if len(r.msgs) != 1 || r.at.Sub(epoch) < 3*time.Second || r.at.Sub(epoch) > 4*time.Second {
		t.Errorf("received %v after %v", r.msgs, r.at.Sub(epoch))
	}
	before := clock.Now()
	go receive()
	r = step(clock, res)
	if len(r.msgs) != 0 || r.at.Sub(before) < 10*time.Second {
		t.Errorf("received %v after %v, want nothing after 10 s", r.msgs, r.at.Sub(before))
	}
}

func step[T any](clock *memqueue.Manual, res chan T) T {
	for {
		select {
		case r := <-res:
			return r
		case <-time.After(20 * time.Millisecond):
			clock.Advance(time.Second)
		}
	}
}

func TestLen(t *testing.T) {
	clock := memqueue.NewManual(epoch)
	q := memqueue.New(clock)
	q.Create("q", memqueue.Options{})
	if err := q.Send(t.Context(), "q", []queue.Outgoing{{Body: "a"}, {Body: "b"}, {Body: "c", Delay: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Receive(t.Context(), "q", queue.ReceiveOptions{Max: 1}); err != nil {
		t.Fatal(err)
	}
	if v, f, d := q.Len("q"); v != 1 || f != 1 || d != 1 {
		t.Errorf("visible %d, in flight %d, delayed %d; want 1 each", v, f, d)
	}
}
