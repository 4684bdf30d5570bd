// Package queuetest is the conformance suite of queue.Queues drivers.
package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/queue"
)

// Harness makes queues for the suite.
type Harness struct {
	Queues queue.Queues
	// New makes an empty queue with that visibility timeout and returns its URL.
	// With maxReceive > 0 it has a dead-letter queue, whose URL is the second.
	New func(t *testing.T, visibility time.Duration, maxReceive int) (url, dead string)
	// Missing is the URL of a queue that does not exist.
	Missing string
	// Sleep lets time pass: it waits, or moves the clock.
	Sleep func(time.Duration)
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Harness)
	}{
		{"RoundTrip", testRoundTrip},
		{"Many", testMany},
		{"Large", testLarge},
		{"Delay", testDelay},
		{"Redelivery", testRedelivery},
		{"Visibility", testVisibility},
		{"DeadLetters", testDeadLetters},
		{"LongPoll", testLongPoll},
		{"DeleteTwice", testDeleteTwice},
		{"Invalid", testInvalid},
		{"Missing", testMissing},
		{"Cancelled", testCancelled},
		{"Concurrent", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, h) })
	}
}

func send(t *testing.T, h Harness, url string, bodies ...string) {
	t.Helper()
	msgs := make([]queue.Outgoing, len(bodies))
	for i, b := range bodies {
		msgs[i].Body = b
	}
	if err := h.Queues.Send(t.Context(), url, msgs); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

func receive(t *testing.T, h Harness, url string, o queue.ReceiveOptions) []queue.Message {
	t.Helper()
	got, err := h.Queues.Receive(t.Context(), url, o)
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return got
}

// soon receives what is due now: a service may be late by a moment.
var soon = queue.ReceiveOptions{Wait: 5 * time.Second}

// drain receives until nothing comes, deleting everything.
func drain(t *testing.T, h Harness, url string) []queue.Message {
	t.Helper()
	var out []queue.Message
	for empty := 0; empty < 2; {
		got := receive(t, h, url, queue.ReceiveOptions{})
		if len(got) == 0 {
			empty++
			continue
		}
		out = append(out, got...)
		receipts := make([]string, len(got))
		for i, m := range got {
			receipts[i] = m.Receipt
		}
		if err := h.Queues.Delete(t.Context(), url, receipts); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
	return out
}

func none(t *testing.T, h Harness, url, when string) {
	t.Helper()
	if got := receive(t, h, url, queue.ReceiveOptions{}); len(got) > 0 {
		t.Fatalf("%s: received %d messages, want none", when, len(got))
	}
}

func one(t *testing.T, h Harness, url, when string, o queue.ReceiveOptions) queue.Message {
	t.Helper()
	got := receive(t, h, url, o)
	if len(got) != 1 {
		t.Fatalf("%s: received %d messages, want one", when, len(got))
	}
	return got[0]
}

func testRoundTrip(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	body := `{"k":"run","d":"größe ✓ 🎈","quote":"<&>\"\\\t\n\r"}`
	send(t, h, url, body)
	m := one(t, h, url, "after Send", queue.ReceiveOptions{Max: 1})
	if m.Body != body {
		t.Errorf("body %q came back as %q", body, m.Body)
	}
	if m.ID == "" || m.Receipt == "" || m.ReceiveCount != 1 || m.Sent.IsZero() {
		t.Errorf("incomplete message: %+v", m)
	}
	if err := h.Queues.Delete(t.Context(), url, []string{m.Receipt}); err != nil {
		t.Fatal(err)
	}
	none(t, h, url, "after Delete")
	if err := h.Queues.Send(t.Context(), url, nil); err != nil {
		t.Errorf("Send of nothing: %v", err)
	}
	if err := h.Queues.Delete(t.Context(), url, nil); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
}

func testMany(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("message %02d", i))
	}
	send(t, h, url, want...)
	var got []string
	for _, m := range drain(t, h, url) {
		got = append(got, m.Body)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func testLarge(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	bodies := []string{strings.Repeat("x", queue.MaxBytes)}
	for i := range 12 {
		bodies = append(bodies, strings.Repeat(string(rune('a'+i)), 60<<10))
	}
	send(t, h, url, bodies...)
	sizes := 0
	got := drain(t, h, url)
	for _, m := range got {
		sizes += len(m.Body)
	}
	if len(got) != 13 || sizes != queue.MaxBytes+12*60<<10 {
		t.Errorf("%d messages with %d bytes came back", len(got), sizes)
	}
}

func testDelay(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	err := h.Queues.Send(t.Context(), url, []queue.Outgoing{{Body: "late", Delay: 1500 * time.Millisecond}, {Body: "now"}})
	if err != nil {
		t.Fatal(err)
	}
	if m := one(t, h, url, "before the delay", queue.ReceiveOptions{}); m.Body != "now" {
		t.Errorf("received %q first", m.Body)
	}
	h.Sleep(2100 * time.Millisecond)
	if m := one(t, h, url, "after the delay", soon); m.Body != "late" || m.ReceiveCount != 1 {
		t.Errorf("received %+v", m)
	}
}

func testRedelivery(t *testing.T, h Harness) {
	url, _ := h.New(t, time.Second, 0)
	send(t, h, url, "again")
	first := one(t, h, url, "first", queue.ReceiveOptions{})
	none(t, h, url, "in flight")
	h.Sleep(1200 * time.Millisecond)
	second := one(t, h, url, "after the visibility timeout", queue.ReceiveOptions{Visibility: 30 * time.Second, Wait: soon.Wait})
	if second.ID != first.ID || second.ReceiveCount != 2 || !second.Sent.Equal(first.Sent) || second.Body != "again" {
		t.Errorf("first %+v, then %+v", first, second)
	}
	h.Sleep(1200 * time.Millisecond)
	none(t, h, url, "with a visibility of its own")
	if err := h.Queues.Delete(t.Context(), url, []string{second.Receipt}); err != nil {
		t.Fatal(err)
	}
}

func testVisibility(t *testing.T, h Harness) {
	url, _ := h.New(t, time.Second, 0)
	send(t, h, url, "x")
	m := one(t, h, url, "first", queue.ReceiveOptions{})
	if err := h.Queues.ChangeVisibility(t.Context(), url, m.Receipt, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	h.Sleep(1200 * time.Millisecond)
	none(t, h, url, "extended")
	if err := h.Queues.ChangeVisibility(t.Context(), url, m.Receipt, 0); err != nil {
		t.Fatal(err)
	}
	if again := one(t, h, url, "given back", soon); again.ReceiveCount != 2 {
		t.Errorf("received %+v", again)
	}
	if err := h.Queues.ChangeVisibility(t.Context(), url, "nonsense", 0); !errors.Is(err, queue.ErrReceipt) {
		t.Errorf("a receipt of nobody: want ErrReceipt, got %v", err)
	}
}

func testDeadLetters(t *testing.T, h Harness) {
	url, dead := h.New(t, time.Second, 2)
	send(t, h, url, "poison", "good")
	for _, m := range receive(t, h, url, queue.ReceiveOptions{}) {
		if m.Body == "good" {
			if err := h.Queues.Delete(t.Context(), url, []string{m.Receipt}); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.Sleep(1200 * time.Millisecond)
	if m := one(t, h, url, "second try", soon); m.Body != "poison" || m.ReceiveCount != 2 {
		t.Errorf("received %+v", m)
	}
	h.Sleep(1200 * time.Millisecond)
	// The move happens on a receive that would be one too many.
	for range 10 {
		none(t, h, url, "after the last try")
		got := receive(t, h, dead, queue.ReceiveOptions{Wait: time.Second})
		if len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0].Body != "poison" {
			t.Errorf("received %+v", got)
		}
		return
	}
	t.Error("the message did not reach the dead-letter queue")
}

func testLongPoll(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	got := make(chan []queue.Message, 1)
	fail := make(chan error, 1)
	go func() {
		msgs, err := h.Queues.Receive(t.Context(), url, queue.ReceiveOptions{Wait: 20 * time.Second})
		fail <- err
		got <- msgs
	}()
	time.Sleep(100 * time.Millisecond) // real time: lets the receiver wait first, mostly
	start := time.Now()
	send(t, h, url, "wake up")
	if err := <-fail; err != nil {
		t.Fatal(err)
	}
	if msgs := <-got; len(msgs) != 1 || msgs[0].Body != "wake up" {
		t.Errorf("received %+v", msgs)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the receiver was woken after %v", took)
	}
}

func testDeleteTwice(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	send(t, h, url, "a")
	m := one(t, h, url, "first", queue.ReceiveOptions{})
	for range 2 {
		if err := h.Queues.Delete(t.Context(), url, []string{m.Receipt}); err != nil {
			t.Fatal(err)
		}
	}
	// One bad receipt does not keep the others from being deleted.
	send(t, h, url, "b")
	m = one(t, h, url, "second", queue.ReceiveOptions{Visibility: time.Second})
	err := h.Queues.Delete(t.Context(), url, []string{"nonsense", m.Receipt})
	var p *queue.PartialError
	if !errors.As(err, &p) || len(p.Failed) != 1 || p.Failed[0].Index != 0 || p.Total != 2 || !errors.Is(err, queue.ErrReceipt) {
		t.Errorf("want a PartialError for index 0, got %v", err)
	}
	h.Sleep(1200 * time.Millisecond)
	none(t, h, url, "after Delete beside a bad receipt")
}

func testInvalid(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	err := h.Queues.Send(t.Context(), url, []queue.Outgoing{
		{Body: "fine"}, {Body: ""}, {Body: "a\x00b"}, {Body: "\xff"}, {Body: "x", Delay: -1}, {Body: "x", Delay: 15*time.Minute + 1},
		{Body: strings.Repeat("x", queue.MaxBytes+1)},
	})
	var invalid *airflow.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 5 {
		t.Errorf("want five problems, got %v", err)
	}
	if !errors.Is(err, airflow.ErrTooLarge) {
		t.Errorf("want ErrTooLarge, got %v", err)
	}
	none(t, h, url, "after an invalid Send")
	for _, o := range []queue.ReceiveOptions{{Max: 11}, {Max: -1}, {Wait: 21 * time.Second}, {Wait: -1}, {Visibility: 13 * time.Hour}} {
		if _, err := h.Queues.Receive(t.Context(), url, o); !errors.As(err, &invalid) {
			t.Errorf("%+v: want an InvalidError, got %v", o, err)
		}
	}
	if err := h.Queues.ChangeVisibility(t.Context(), url, "x", -1); !errors.As(err, &invalid) {
		t.Errorf("want an InvalidError, got %v", err)
	}
}

func testMissing(t *testing.T, h Harness) {
	ctx := t.Context()
	_, err := h.Queues.Receive(ctx, h.Missing, queue.ReceiveOptions{})
	for op, err := range map[string]error{
		"Send":             h.Queues.Send(ctx, h.Missing, []queue.Outgoing{{Body: "x"}}),
		"Receive":          err,
		"Delete":           h.Queues.Delete(ctx, h.Missing, []string{"x"}),
		"ChangeVisibility": h.Queues.ChangeVisibility(ctx, h.Missing, "x", 0),
	} {
		if !errors.Is(err, airflow.ErrNotFound) {
			t.Errorf("%s: want ErrNotFound, got %v", op, err)
		}
	}
}

func testCancelled(t *testing.T, h Harness) {
	url, _ := h.New(t, 30*time.Second, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Queues.Send(ctx, url, []queue.Outgoing{{Body: "x"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Send: want Canceled, got %v", err)
	}
	if _, err := h.Queues.Receive(ctx, url, queue.ReceiveOptions{Wait: time.Second}); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive: want Canceled, got %v", err)
	}
	none(t, h, url, "after a cancelled Send")
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := h.Queues.Receive(ctx, url, queue.ReceiveOptions{Wait: 20 * time.Second}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive: want DeadlineExceeded, got %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("Receive ended %v after its context", took)
	}
}

func testConcurrent(t *testing.T, h Harness) {
	url, _ := h.New(t, 60*time.Second, 0)
	const senders, each = 4, 15
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := h.Queues.Send(t.Context(), url, []queue.Outgoing{{Body: fmt.Sprintf("%d/%d", s, i)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var mu sync.Mutex
	seen := map[string]int{}
	for range senders {
		wg.Go(func() {
			for {
				got, err := h.Queues.Receive(t.Context(), url, queue.ReceiveOptions{Max: 3})
				if err != nil {
					t.Error(err)
					return
				}
				if len(got) == 0 {
					return
				}
				mu.Lock()
				for _, m := range got {
					seen[m.Body]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != senders*each {
		t.Errorf("%d different messages received, want %d", len(seen), senders*each)
	}
}
