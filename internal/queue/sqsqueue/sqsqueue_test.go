package sqsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsmeter/awstest"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/queue/queuetest"
	"github.com/gustflow/gust/internal/queue/sqsqueue"
)

func TestSuiteSQS(t *testing.T) {
	c := sqs.NewFromConfig(awstest.Config(t))
	prefix := fmt.Sprintf("sqsqueue-%d", time.Now().UnixNano())
	n := 0
	create := func(t *testing.T, attrs map[string]string) string {
		n++
		out, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(fmt.Sprintf("%s-%d", prefix, n)), Attributes: attrs})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = c.DeleteQueue(context.Background(), &sqs.DeleteQueueInput{QueueUrl: out.QueueUrl}) })
		return *out.QueueUrl
	}
	missing := create(t, nil)
	queuetest.Run(t, queuetest.Harness{
		Queues: sqsqueue.New(c, sqsqueue.Options{}),
		New: func(t *testing.T, visibility time.Duration, maxReceive int) (url, dead string) {
			attrs := map[string]string{"VisibilityTimeout": fmt.Sprint(queue.Seconds(visibility))}
			if maxReceive > 0 {
				dead = create(t, nil)
				out, err := c.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &dead, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
				if err != nil {
					t.Fatal(err)
				}
				attrs["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, out.Attributes["QueueArn"], maxReceive)
			}
			return create(t, attrs), dead
		},
		Missing: strings.Replace(missing, prefix, prefix+"-none", 1),
		Sleep:   time.Sleep,
	})
}

// fake answers send and delete batches by a script.
type fake struct {
	sqsqueue.API
	calls []string // the ids of each request
	// answer returns the failed entries of request n (from 0), or an error.
	answer func(n int, ids []string) ([]types.BatchResultErrorEntry, error)
}

func (f *fake) do(ids []string) ([]types.BatchResultErrorEntry, error) {
	f.calls = append(f.calls, strings.Join(ids, " "))
	return f.answer(len(f.calls)-1, ids)
}

func (f *fake) SendMessageBatch(_ context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	var ids []string
	for _, e := range in.Entries {
		ids = append(ids, *e.Id)
	}
	failed, err := f.do(ids)
	return &sqs.SendMessageBatchOutput{Failed: failed}, err
}

func entry(id, code string, sender bool) types.BatchResultErrorEntry {
	return types.BatchResultErrorEntry{Id: &id, Code: &code, Message: aws.String("…"), SenderFault: sender}
}

func messages(n int) []queue.Outgoing {
	out := make([]queue.Outgoing, n)
	for i := range out {
		out[i].Body = fmt.Sprint(i)
	}
	return out
}

func TestPartialFailures(t *testing.T) {
	for name, c := range map[string]struct {
		n      int
		answer func(n int, ids []string) ([]types.BatchResultErrorEntry, error)
		calls  []string
		failed []int
		is     error
		pauses int
	}{
		"all sent": {n: 12, answer: func(int, []string) ([]types.BatchResultErrorEntry, error) { return nil, nil },
			calls: []string{"0 1 2 3 4 5 6 7 8 9", "10 11"}},
		"two again": {n: 4, answer: func(n int, _ []string) ([]types.BatchResultErrorEntry, error) {
			if n == 0 {
				return []types.BatchResultErrorEntry{entry("1", "InternalError", false), entry("3", "InternalError", false)}, nil
			}
			return nil, nil
		}, calls: []string{"0 1 2 3", "1 3"}, pauses: 1},
		"the sender's fault is not repeated": {n: 3, answer: func(int, []string) ([]types.BatchResultErrorEntry, error) {
			return []types.BatchResultErrorEntry{entry("2", "InvalidMessageContents", true)}, nil
		}, calls: []string{"0 1 2"}, failed: []int{2}},
		"in the end reported": {n: 2, answer: func(int, []string) ([]types.BatchResultErrorEntry, error) {
			return []types.BatchResultErrorEntry{entry("0", "InternalError", false)}, nil
		}, calls: []string{"0 1", "0", "0"}, failed: []int{0}, is: airflow.ErrUnavailable, pauses: 2},
		"a failed batch does not stop the next": {n: 11, answer: func(n int, _ []string) ([]types.BatchResultErrorEntry, error) {
			if n == 0 {
				return nil, &smithy.GenericAPIError{Code: "ThrottlingException"}
			}
			return nil, nil
		}, calls: []string{"0 1 2 3 4 5 6 7 8 9", "10"}, failed: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, is: airflow.ErrThrottled},
		"a missing queue does": {n: 11, answer: func(n int, ids []string) ([]types.BatchResultErrorEntry, error) {
			return nil, &smithy.GenericAPIError{Code: "AWS.SimpleQueueService.NonExistentQueue"}
		}, calls: []string{"0 1 2 3 4 5 6 7 8 9"}, failed: nil, is: airflow.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{answer: c.answer}
			pauses := 0
			q := sqsqueue.New(f, sqsqueue.Options{Attempts: 3, Jitter: func() float64 { return 0.5 }, Sleep: func(_ context.Context, d time.Duration) error {
				if want := 25 * time.Millisecond << pauses; d != want {
					t.Errorf("pause %d is %v, want %v", pauses, d, want)
				}
				pauses++
				return nil
			}})
			err := q.Send(t.Context(), "url", messages(c.n))
			if got, want := strings.Join(f.calls, "|"), strings.Join(c.calls, "|"); got != want {
				t.Errorf("requests %s, want %s", got, want)
			}
			if pauses != c.pauses {
				t.Errorf("%d pauses, want %d", pauses, c.pauses)
			}
			var p *queue.PartialError
			var failed []int
			if errors.As(err, &p) {
				for _, x := range p.Failed {
					failed = append(failed, x.Index)
				}
			}
			if fmt.Sprint(failed) != fmt.Sprint(c.failed) {
				t.Errorf("failed %v, want %v (%v)", failed, c.failed, err)
			}
			if (err != nil) != (c.failed != nil || c.is != nil) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want one that is %v", err, c.is)
			}
		})
	}
}

func TestPauseEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{answer: func(_ int, ids []string) ([]types.BatchResultErrorEntry, error) {
		cancel()
		return []types.BatchResultErrorEntry{entry(ids[0], "InternalError", false)}, nil
	}}
	q := sqsqueue.New(f, sqsqueue.Options{Backoff: time.Hour, MaxBackoff: time.Hour, Jitter: func() float64 { return 1 }})
	start := time.Now()
	err := q.Send(ctx, "url", messages(11))
	var p *queue.PartialError
	if !errors.As(err, &p) || len(p.Failed) != 2 || p.Failed[0].Index != 0 || p.Failed[1].Index != 10 {
		t.Errorf("want messages 0 and 10 failed, got %v", err)
	}
	if len(f.calls) != 1 || time.Since(start) > time.Minute {
		t.Errorf("%d requests in %v", len(f.calls), time.Since(start))
	}
}
