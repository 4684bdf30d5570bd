// Package sqsqueue is queue.Queues on Amazon SQS standard queues.
//
// Sends and deletes go in batches of up to 10 messages and 256 KB. What SQS
// refuses of a batch for reasons of its own is sent again, with growing jittered
// pauses; what the sender is to blame for, and what still fails at the end, is
// reported message by message. A request that fails as a whole is repeated by the
// SDK's retryer, which knows throttling; configure its attempts on the client.
package sqsqueue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/queue"
)

// API is what is used of *sqs.Client.
type API interface {
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
	ChangeMessageVisibility(context.Context, *sqs.ChangeMessageVisibilityInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error)
}

// Options configure a client. The zero value is a good default.
type Options struct {
	// Attempts is how often the rest of a partly failed batch is tried; default 5.
	Attempts int
	// Backoff is the longest pause before the second attempt; it doubles up to
	// MaxBackoff. The pause is drawn between 0 and that. Defaults 50 ms and 2 s.
	Backoff, MaxBackoff time.Duration
	// Sleep waits, or returns the context's error; default a timer.
	Sleep func(context.Context, time.Duration) error
	// Jitter returns a number in [0, 1); default math/rand.
	Jitter func() float64
}

// Queues is a client; see queue.Queues.
type Queues struct {
	api API
	o   Options
}

var _ queue.Queues = (*Queues)(nil)

// New returns queues behind a client. One client serves every queue.
func New(api API, o Options) *Queues {
	if o.Attempts == 0 {
		o.Attempts = 5
	}
	if o.Backoff == 0 {
		o.Backoff = 50 * time.Millisecond
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = 2 * time.Second
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return &Queues{api: api, o: o}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Send implements queue.Queues.
func (q *Queues) Send(ctx context.Context, url string, msgs []queue.Outgoing) error {
	if err := queue.CheckSend(msgs); err != nil {
		return err
	}
	return q.batches(ctx, "send", url, len(msgs), func(i int) int { return len(msgs[i].Body) }, func(ids []int) ([]types.BatchResultErrorEntry, error) {
		in := sqs.SendMessageBatchInput{QueueUrl: &url}
		for _, i := range ids {
			e := types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &msgs[i].Body}
			if msgs[i].Delay > 0 {
				e.DelaySeconds = queue.Seconds(msgs[i].Delay)
			}
			in.Entries = append(in.Entries, e)
		}
		out, err := q.api.SendMessageBatch(ctx, &in)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// Delete implements queue.Queues.
func (q *Queues) Delete(ctx context.Context, url string, receipts []string) error {
	return q.batches(ctx, "delete", url, len(receipts), func(i int) int { return len(receipts[i]) }, func(ids []int) ([]types.BatchResultErrorEntry, error) {
		in := sqs.DeleteMessageBatchInput{QueueUrl: &url}
		for _, i := range ids {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &receipts[i]})
		}
		out, err := q.api.DeleteMessageBatch(ctx, &in)
		if err != nil {
			return nil, err
		}
		return out.Failed, nil
	})
}

// batches does n entries in batches. Every batch is tried, whatever became of
// those before, except when the context has ended or the queue does not exist.
func (q *Queues) batches(ctx context.Context, op, url string, n int, size func(int) int, do func(ids []int) ([]types.BatchResultErrorEntry, error)) error {
	partial := &queue.PartialError{Op: op, Total: n}
	fail := func(i int, err error) { partial.Failed = append(partial.Failed, queue.Failure{Index: i, Err: err}) }
	var stop error
	_ = queue.Batches(n, size, func(from, to int) error {
		ids := make([]int, 0, to-from)
		for i := from; i < to; i++ {
			ids = append(ids, i)
		}
		if stop == nil {
			stop = ctx.Err()
		}
		if stop == nil {
			stop = q.batch(ctx, ids, do, fail)
			return nil
		}
		for _, i := range ids {
			fail(i, fmt.Errorf("not tried: %w", stop))
		}
		return nil
	})
	if len(partial.Failed) == 0 {
		return nil
	}
	if len(partial.Failed) == n && stop != nil {
		return fmt.Errorf("queue %s: %s: %w", url, op, stop) // nothing is partial about it
	}
	sortFailures(partial.Failed)
	return partial
}

func sortFailures(f []queue.Failure) {
	for i := 1; i < len(f); i++ { // nearly sorted, short
		for j := i; j > 0 && f[j].Index < f[j-1].Index; j-- {
			f[j], f[j-1] = f[j-1], f[j]
		}
	}
}

// batch does one batch to the end. It returns an error only if later batches
// need not be tried.
func (q *Queues) batch(ctx context.Context, ids []int, do func([]int) ([]types.BatchResultErrorEntry, error), fail func(int, error)) error {
	pause := q.o.Backoff
	for attempt := 1; ; attempt++ {
		failed, err := do(ids)
		if err != nil {
			err = translate(err)
			for _, i := range ids {
				fail(i, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, airflow.ErrNotFound) || errors.Is(err, airflow.ErrNotAllowed) {
				return err
			}
			return nil
		}
		again := ids[:0]
		last := map[int]error{}
		for _, f := range failed {
			i, err := strconv.Atoi(aws.ToString(f.Id))
			if err != nil {
				return fmt.Errorf("SQS reported a failure of the unknown entry %q: %s", aws.ToString(f.Id), aws.ToString(f.Code))
			}
			cause := entryError(f)
			if f.SenderFault || attempt == q.o.Attempts {
				fail(i, cause)
				continue
			}
			last[i] = cause
			again = append(again, i)
		}
		if len(again) == 0 {
			return nil
		}
		if err := q.o.Sleep(ctx, time.Duration(q.o.Jitter()*float64(pause))); err != nil {
			for _, i := range again {
				fail(i, last[i])
			}
			return err
		}
		pause = min(2*pause, q.o.MaxBackoff)
		ids = again
	}
}

func entryError(f types.BatchResultErrorEntry) error {
	code := aws.ToString(f.Code)
	err := fmt.Errorf("%s: %s", code, aws.ToString(f.Message))
	switch {
	case strings.Contains(code, "ReceiptHandleIsInvalid"):
		return fmt.Errorf("%w: %w", queue.ErrReceipt, err)
	case strings.Contains(code, "Throttl"):
		return fmt.Errorf("%w: %w", airflow.ErrThrottled, err)
	case !f.SenderFault:
		return fmt.Errorf("%w: %w", airflow.ErrUnavailable, err)
	}
	return err
}

// Receive implements queue.Queues.
func (q *Queues) Receive(ctx context.Context, url string, o queue.ReceiveOptions) ([]queue.Message, error) {
	if err := queue.CheckReceive(o); err != nil {
		return nil, err
	}
	if o.Max == 0 {
		o.Max = queue.MaxBatch
	}
	in := sqs.ReceiveMessageInput{
		QueueUrl: &url, MaxNumberOfMessages: int32(o.Max), WaitTimeSeconds: queue.Seconds(o.Wait), VisibilityTimeout: queue.Seconds(o.Visibility),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameApproximateReceiveCount, types.MessageSystemAttributeNameSentTimestamp},
	}
	out, err := q.api.ReceiveMessage(ctx, &in)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("queue %s: receive: %w", url, translate(err))
	}
	msgs := make([]queue.Message, len(out.Messages))
	for i, m := range out.Messages {
		msgs[i] = queue.Message{ID: aws.ToString(m.MessageId), Body: aws.ToString(m.Body), Receipt: aws.ToString(m.ReceiptHandle)}
		if msgs[i].ReceiveCount, err = strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]); err != nil {
			msgs[i].ReceiveCount = 1
		}
		if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
			msgs[i].Sent = time.UnixMilli(ms).UTC()
		}
	}
	return msgs, nil
}

// ChangeVisibility implements queue.Queues.
func (q *Queues) ChangeVisibility(ctx context.Context, url, receipt string, d time.Duration) error {
	if err := queue.CheckVisibility(d); err != nil {
		return err
	}
	_, err := q.api.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &url, ReceiptHandle: &receipt, VisibilityTimeout: queue.Seconds(d)})
	if err != nil {
		return fmt.Errorf("queue %s: change visibility: %w", url, translate(err))
	}
	return nil
}

// translate maps SDK errors to the sentinels of the port, keeping the chain.
func translate(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	wrap := func(sentinel error) error { return fmt.Errorf("%w: %w", sentinel, err) }
	var api smithy.APIError
	if !errors.As(err, &api) {
		return wrap(airflow.ErrUnavailable) // no answer, or none that was understood
	}
	code := api.ErrorCode()
	switch {
	case strings.Contains(code, "NonExistentQueue"), strings.Contains(code, "QueueDoesNotExist"):
		return wrap(airflow.ErrNotFound)
	case strings.Contains(code, "Throttl"), code == "RequestThrottled", code == "OverLimit":
		return wrap(airflow.ErrThrottled)
	case strings.Contains(code, "ReceiptHandleIsInvalid"), strings.Contains(code, "MessageNotInflight"), code == "InvalidParameterValue" && strings.Contains(api.ErrorMessage(), "receipt"):
		return wrap(queue.ErrReceipt)
	case strings.Contains(code, "AccessDenied"):
		return wrap(airflow.ErrNotAllowed)
	case strings.Contains(code, "BatchRequestTooLong"):
		return wrap(airflow.ErrTooLarge)
	case api.ErrorFault() == smithy.FaultServer, code == "ServiceUnavailable", code == "InternalError", code == "InternalFailure":
		return wrap(airflow.ErrUnavailable)
	}
	return err
}
