// Package memqueue keeps queues in memory: for tests, simulations and brokers
// inside one process. With a Manual clock everything it does is deterministic:
// ids count up and the oldest visible message is delivered first.
package memqueue

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/queue"
)

// Options describe one queue. The zero value is SQS's defaults.
type Options struct {
	// Visibility is the default visibility timeout; 0 = 30 s.
	Visibility time.Duration
	// DeadLetters is the URL of the queue that takes messages received more than
	// MaxReceiveCount times; "" = none.
	DeadLetters     string
	MaxReceiveCount int
}

// Queues is a set of queues; see queue.Queues.
type Queues struct {
	clock Clock

	mu     sync.Mutex
	queues map[string]*one
	nextID int
}

var _ queue.Queues = (*Queues)(nil)

type one struct {
	Options
	msgs []*message // by age
	// waiters are the Receives that found nothing visible.
	waiters map[chan struct{}]bool
}

type message struct {
	id       string
	body     string
	sent     time.Time
	visible  time.Time
	receipt  string // of the last delivery, "" before the first
	received int
}

// New returns an empty set. A nil clock is the machine's.
func New(c Clock) *Queues {
	if c == nil {
		c = System()
	}
	return &Queues{clock: c, queues: map[string]*one{}}
}

// Create makes a queue. An existing one keeps its messages and takes the options.
func (q *Queues) Create(url string, o Options) {
	if o.Visibility == 0 {
		o.Visibility = 30 * time.Second
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if have := q.queues[url]; have != nil {
		have.Options = o
		return
	}
	q.queues[url] = &one{Options: o, waiters: map[chan struct{}]bool{}}
}

// Len returns how many messages can be received now, are in flight, and are
// delayed.
func (q *Queues) Len(url string) (visible, inFlight, delayed int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	if o := q.queues[url]; o != nil {
		for _, m := range o.msgs {
			switch {
			case !m.visible.After(now):
				visible++
			case m.received > 0:
				inFlight++
			default:
				delayed++
			}
		}
	}
	return visible, inFlight, delayed
}

func (q *Queues) get(url string) (*one, error) {
	o := q.queues[url]
	if o == nil {
		return nil, fmt.Errorf("queue %s: %w", url, airflow.ErrNotFound)
	}
	return o, nil
}

// Send implements queue.Queues.
func (q *Queues) Send(ctx context.Context, url string, msgs []queue.Outgoing) error {
	if err := queue.CheckSend(msgs); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	o, err := q.get(url)
	if err != nil {
		return err
	}
	now := q.clock.Now()
	for _, m := range msgs {
		q.nextID++
		delay := time.Duration(queue.Seconds(m.Delay)) * time.Second
		o.msgs = append(o.msgs, &message{id: fmt.Sprintf("m%08d", q.nextID), body: m.Body, sent: now, visible: now.Add(delay)})
	}
	o.wake()
	return nil
}

// wake lets the waiting Receives look again.
func (o *one) wake() {
	for w := range o.waiters {
		delete(o.waiters, w)
		close(w)
	}
}

// Receive implements queue.Queues.
func (q *Queues) Receive(ctx context.Context, url string, o queue.ReceiveOptions) ([]queue.Message, error) {
	if err := queue.CheckReceive(o); err != nil {
		return nil, err
	}
	if o.Max == 0 {
		o.Max = queue.MaxBatch
	}
	deadline := q.clock.Now().Add(time.Duration(queue.Seconds(o.Wait)) * time.Second)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, wait, stop, err := q.take(url, o, deadline)
		if err != nil || len(got) > 0 || wait == nil {
			return got, err
		}
		select {
		case <-ctx.Done():
		case <-wait:
		}
		stop()
	}
}

// take returns what is visible; when that is nothing and the deadline lies
// ahead, a channel that is closed when looking again may help.
func (q *Queues) take(url string, o queue.ReceiveOptions, deadline time.Time) ([]queue.Message, <-chan struct{}, func(), error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	qu, err := q.get(url)
	if err != nil {
		return nil, nil, nil, err
	}
	now := q.clock.Now()
	var out []queue.Message
	next := deadline // when the next message becomes visible
	kept := qu.msgs[:0]
	for _, m := range qu.msgs {
		if m.visible.After(now) {
			if m.visible.Before(next) {
				next = m.visible
			}
		} else if len(out) < o.Max {
			if qu.DeadLetters != "" && m.received >= qu.MaxReceiveCount {
				q.bury(qu.DeadLetters, m, now)
				continue
			}
			m.received++
			m.receipt = m.id + "." + strconv.Itoa(m.received)
			visibility := o.Visibility
			if visibility == 0 {
				visibility = qu.Visibility
			}
			m.visible = now.Add(time.Duration(queue.Seconds(visibility)) * time.Second)
			out = append(out, queue.Message{ID: m.id, Body: m.body, Receipt: m.receipt, ReceiveCount: m.received, Sent: m.sent})
		}
		kept = append(kept, m)
	}
	clear(qu.msgs[len(kept):])
	qu.msgs = kept
	if len(out) > 0 || !now.Before(deadline) {
		return out, nil, nil, nil
	}
	w := make(chan struct{})
	qu.waiters[w] = true
	wake := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if qu.waiters[w] {
			delete(qu.waiters, w)
			close(w)
		}
	}
	stop := q.clock.AfterFunc(next.Sub(now), wake)
	return nil, w, func() { stop(); wake() }, nil
}

// bury moves a message to the dead-letter queue, as SQS does when it is received
// once too often.
func (q *Queues) bury(url string, m *message, now time.Time) {
	dead := q.queues[url]
	if dead == nil {
		return // nowhere to keep it
	}
	m.received, m.receipt, m.visible = 0, "", now
	dead.msgs = append(dead.msgs, m)
	sort.SliceStable(dead.msgs, func(i, j int) bool { return dead.msgs[i].sent.Before(dead.msgs[j].sent) })
	dead.wake()
}

// find returns the message of a receipt; known is whether the receipt was ever
// given out by this queue.
func (o *one) find(receipt string) (at int, known bool) {
	id, n, ok := strings.Cut(receipt, ".")
	if _, err := strconv.Atoi(n); !ok || err != nil || !strings.HasPrefix(id, "m") {
		return -1, false
	}
	for i, m := range o.msgs {
		if m.receipt == receipt {
			return i, true
		}
	}
	return -1, true
}

// Delete implements queue.Queues. The receipt of an earlier delivery deletes
// nothing, as on SQS, where that may or may not delete.
func (q *Queues) Delete(ctx context.Context, url string, receipts []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	o, err := q.get(url)
	if err != nil {
		return err
	}
	var failed []queue.Failure
	for i, r := range receipts {
		at, known := o.find(r)
		if !known {
			failed = append(failed, queue.Failure{Index: i, Err: queue.ErrReceipt})
		} else if at >= 0 {
			o.msgs = append(o.msgs[:at], o.msgs[at+1:]...)
		}
	}
	if len(failed) > 0 {
		return &queue.PartialError{Op: "delete", Total: len(receipts), Failed: failed}
	}
	return nil
}

// ChangeVisibility implements queue.Queues.
func (q *Queues) ChangeVisibility(ctx context.Context, url, receipt string, d time.Duration) error {
	if err := queue.CheckVisibility(d); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	o, err := q.get(url)
	if err != nil {
		return err
	}
	now := q.clock.Now()
	at, _ := o.find(receipt)
	if at < 0 || !o.msgs[at].visible.After(now) {
		return queue.ErrReceipt
	}
	o.msgs[at].visible = now.Add(time.Duration(queue.Seconds(d)) * time.Second)
	o.wake()
	return nil
}
