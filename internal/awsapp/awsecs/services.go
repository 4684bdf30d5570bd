package awsecs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
)

// Attributes is what is used of *sqs.Client.
type Attributes interface {
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// lookEvery is how often the length of a queue is asked for. SQS stops reporting it
// to CloudWatch when nobody has used a queue for six hours, and needs up to a
// quarter of an hour to start again: so long the first task after a quiet night
// would wait for a worker.
const lookEvery = time.Hour

// lookTime bounds what a tick waits for all lengths.
const lookTime = 3 * time.Second

// Services are the services of the cluster that serve queues and are scaled from
// zero by what waits in them. A nil *Services has none.
type Services struct {
	api  Attributes
	urls []string
	now  func() time.Time

	mu   sync.Mutex
	next time.Time
}

// OpenServices returns the services of a deployment, nil if it has none.
func OpenServices(a *awsapp.App) (*Services, error) {
	if a.Config.ECS == "" {
		return nil, nil
	}
	var c awsenv.ECS
	if err := json.Unmarshal([]byte(a.Config.ECS), &c); err != nil {
		return nil, fmt.Errorf("%s: %w", awsenv.ECSExecutor, err)
	}
	var urls []string
	var errs []error
	for _, q := range slices.Sorted(slices.Values(c.Services)) {
		u, ok := a.Config.TaskQueues[q]
		if !ok {
			errs = append(errs, fmt.Errorf("%s names a service of queue %q, which %s lacks", awsenv.ECSExecutor, q, awsenv.TaskQueues))
		}
		urls = append(urls, u)
	}
	if len(urls) == 0 || len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return NewServices(sqs.NewFromConfig(a.AWS()), urls, time.Now), nil
}

// NewServices returns the services of queues by their URLs.
func NewServices(api Attributes, urls []string, now func() time.Time) *Services {
	return &Services{api: api, urls: urls, now: now}
}

// Look keeps the lengths of the queues reported. It asks for them about once an
// hour in each process, again at the next call if that failed, and is called with
// every tick.
func (s *Services) Look(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	due := !s.now().Before(s.next)
	s.mu.Unlock()
	if !due {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var errs []error
	for _, u := range s.urls {
		if _, err := s.api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &u, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages}}); err != nil {
			errs = append(errs, fmt.Errorf("length of %s: %w", u, err))
		}
	}
	if len(errs) == 0 {
		s.mu.Lock()
		s.next = s.now().Add(lookEvery)
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}
