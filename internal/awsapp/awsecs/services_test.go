package awsecs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsecs"
	"github.com/gustflow/gust/internal/awsenv"
)

type lengths struct {
	asked []string
	err   error
}

func (l *lengths) GetQueueAttributes(_ context.Context, in *sqs.GetQueueAttributesInput, _ ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	if !slices.Equal(in.AttributeNames, []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages}) {
		return nil, errors.New("what was asked for is not what the role may see")
	}
	l.asked = append(l.asked, *in.QueueUrl)
	return &sqs.GetQueueAttributesOutput{}, l.err
}

// A queue that nobody uses is looked at often enough for its length to stay known.
func TestServedQueuesStayReported(t *testing.T) {
	api, now := &lengths{}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := awsecs.NewServices(api, []string{"https://q/a", "https://q/b"}, func() time.Time { return now })
	for range 24 * 60 {
		if err := s.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	if len(api.asked) != 2*24 {
		t.Errorf("%d calls a day, want one an hour and queue", len(api.asked))
	}
	api.err = errors.New("no answer")
	now = now.Add(time.Hour)
	for range 3 {
		if err := s.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "https://q/b") {
			t.Errorf("failure not reported: %v", err)
		}
	}
	if len(api.asked) != 2*27 {
		t.Errorf("%d calls: a failure is not tried again", len(api.asked))
	}
	if err := (*awsecs.Services)(nil).Look(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServicesOfADeployment(t *testing.T) {
	for conf, want := range map[string]string{
		"":                         "none",
		`{"cluster":"c"}`:          "none",
		`{"services":["default"]}`: "",
		`{"services":["gpu"]}`:     `names a service of queue "gpu"`,
		`{`:                        awsenv.ECSExecutor,
	} {
		a, err := awsapp.Open(t.Context(), awsapp.Config{ECS: conf, TaskQueues: map[string]string{"default": "https://q/d"}}, awsapp.Options{AWS: &aws.Config{Region: "us-east-1"}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := awsecs.OpenServices(a)
		switch want {
		case "none", "":
			if err != nil || (s == nil) != (want == "none") {
				t.Errorf("%s: %v %v", conf, s, err)
			}
		default:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", conf, err)
			}
		}
	}
}
