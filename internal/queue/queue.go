// Package queue is the port to message queues that deliver at least once and in no
// particular order: SQS standard queues, or memory.
//
// A message that is received stays invisible for a while (the visibility timeout)
// and comes back unless it is deleted before. Messages carry keys, never data or
// tokens, so that a body stays far below the limits. Nothing above the port may
// depend on order or on a message coming once: conditional writes of the store
// provide both (ADR 12).
//
// Package queuetest is the suite that every driver passes.
package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
)

// Limits that hold on every driver, because they hold on SQS.
const (
	// MaxBatch is the most messages of one request; drivers split what is longer.
	MaxBatch = 10
	// MaxBytes bounds one message and one request. SQS takes 1 MiB since August
	// 2025; below 256 KB every region and emulator agrees, and above 64 KB a
	// request is billed more than once.
	MaxBytes = 256 << 10
	// MaxDelay bounds Outgoing.Delay.
	MaxDelay = 15 * time.Minute
	// MaxWait bounds ReceiveOptions.Wait.
	MaxWait = 20 * time.Second
	// MaxVisibility bounds visibility timeouts.
	MaxVisibility = 12 * time.Hour
)

// ErrReceipt says that a receipt is not one of this queue's, or that its message
// is no longer in flight.
var ErrReceipt = errors.New("the receipt is not that of a message in flight")

// Message is a message as it was received.
type Message struct {
	ID   string // given by the queue; the same at every delivery
	Body string
	// Receipt is of this delivery, and what Delete and ChangeVisibility take.
	Receipt string
	// ReceiveCount is 1 at the first delivery. It may skip numbers: deliveries that
	// a consumer was too busy to take count.
	ReceiveCount int
	Sent         time.Time
}

// Outgoing is a message to send.
type Outgoing struct {
	Body string
	// Delay keeps the message from being received: 0 to MaxDelay, rounded up to
	// whole seconds.
	Delay time.Duration
}

// ReceiveOptions bound one Receive.
type ReceiveOptions struct {
	// Max is the most messages wanted, 1 to MaxBatch; 0 = MaxBatch.
	Max int
	// Wait is how long to wait for the first one, up to MaxWait (long polling),
	// rounded up to whole seconds; 0 returns at once.
	Wait time.Duration
	// Visibility is how long the messages stay invisible, rounded up to whole
	// seconds; 0 = the queue's.
	Visibility time.Duration
}

// Queues sends to and receives from queues, each named by its URL. All methods may
// be called concurrently. Errors wrap airflow.ErrNotFound (there is no such
// queue), airflow.ErrThrottled, airflow.ErrUnavailable, airflow.ErrTooLarge,
// airflow.ErrNotAllowed, ErrReceipt, *airflow.InvalidError or the cause.
type Queues interface {
	// Send sends messages, any number of them. Invalid ones are refused before any
	// is sent. When some could not be sent the error is a *PartialError that names
	// them; the others were. A message whose outcome is unknown counts as failed and
	// may arrive all the same.
	Send(ctx context.Context, url string, msgs []Outgoing) error
	// Receive returns at least one message, or none after Wait.
	Receive(ctx context.Context, url string, o ReceiveOptions) ([]Message, error)
	// Delete removes messages by their receipts, any number of them. Deleting twice
	// is fine. Failures are a *PartialError.
	Delete(ctx context.Context, url string, receipts []string) error
	// ChangeVisibility makes a message in flight visible d from now; 0 at once.
	ChangeVisibility(ctx context.Context, url, receipt string, d time.Duration) error
}

// PartialError says which messages of a request failed.
type PartialError struct {
	Op     string // "send" or "delete"
	Total  int
	Failed []Failure // ascending by Index
}

// Failure is one message that failed.
type Failure struct {
	Index int // in the argument
	Err   error
}

// Error names the number of failures and up to three causes.
func (e *PartialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "queue: %s: %d of %d messages failed", e.Op, len(e.Failed), e.Total)
	for i, f := range e.Failed {
		if i == 3 {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; message %d: %v", f.Index, f.Err)
	}
	return b.String()
}

// Unwrap returns the causes.
func (e *PartialError) Unwrap() []error {
	out := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		out[i] = f.Err
	}
	return out
}

// Seconds rounds up to whole seconds, as queues count.
func Seconds(d time.Duration) int32 { return int32((d + time.Second - 1) / time.Second) }

// CheckSend returns every problem of messages to be sent, as *airflow.InvalidError
// or airflow.ErrTooLarge. Drivers call it first.
func CheckSend(msgs []Outgoing) error {
	var problems []airflow.Problem
	var large []error
	for i, m := range msgs {
		field := fmt.Sprintf("message %d", i)
		bad := func(format string, args ...any) {
			problems = append(problems, airflow.Problem{Field: field, Message: fmt.Sprintf(format, args...)})
		}
		switch {
		case m.Body == "":
			bad("the body is empty: expected at least one character")
		case len(m.Body) > MaxBytes:
			large = append(large, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed: send a key and store the data", airflow.ErrTooLarge, field, len(m.Body), MaxBytes))
		default:
			if at := badRune(m.Body); at >= 0 {
				bad("byte %d of the body is not a character that a queue takes (Unicode without control characters other than tab, line feed and carriage return)", at)
			}
		}
		if m.Delay < 0 || m.Delay > MaxDelay {
			bad("the delay is %v: expected 0 to %v", m.Delay, MaxDelay)
		}
	}
	if len(problems) > 0 {
		return errors.Join(append([]error{&airflow.InvalidError{Problems: problems}}, large...)...)
	}
	return errors.Join(large...)
}

// badRune returns the position of the first character that SQS refuses, or -1.
func badRune(s string) int {
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n <= 1 {
				return i
			}
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0xFFFE, r == 0xFFFF:
			return i
		}
	}
	return -1
}

// CheckReceive returns every problem of options.
func CheckReceive(o ReceiveOptions) error {
	var problems []airflow.Problem
	bad := func(field, format string, args ...any) {
		problems = append(problems, airflow.Problem{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if o.Max < 0 || o.Max > MaxBatch {
		bad("Max", "is %d: expected 1 to %d, or 0 for %d", o.Max, MaxBatch, MaxBatch)
	}
	if o.Wait < 0 || o.Wait > MaxWait {
		bad("Wait", "is %v: expected 0 to %v", o.Wait, MaxWait)
	}
	if o.Visibility < 0 || o.Visibility > MaxVisibility {
		bad("Visibility", "is %v: expected 0 to %v", o.Visibility, MaxVisibility)
	}
	if len(problems) > 0 {
		return &airflow.InvalidError{Problems: problems}
	}
	return nil
}

// CheckVisibility returns why d cannot be a visibility timeout.
func CheckVisibility(d time.Duration) error {
	if d < 0 || d > MaxVisibility {
		return airflow.Invalid("visibility", "is %v: expected 0 to %v", d, MaxVisibility)
	}
	return nil
}

// Batches splits n messages into runs of at most MaxBatch messages and MaxBytes
// bytes together, in order, and calls f with each range until it fails.
func Batches(n int, size func(int) int, f func(from, to int) error) error {
	for from := 0; from < n; {
		to, bytes := from, 0
		for to < n && to-from < MaxBatch && (to == from || bytes+size(to) <= MaxBytes) {
			bytes += size(to)
			to++
		}
		if err := f(from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}
