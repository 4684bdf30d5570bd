package faultproxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// backend records the requests that come through.
type backend struct {
	mu     sync.Mutex
	bodies []string
	paths  []string
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.bodies = append(b.bodies, string(body))
	b.paths = append(b.paths, r.URL.EscapedPath())
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_, _ = io.WriteString(w, "{}")
}

func (b *backend) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bodies
}

func start(t *testing.T) (*Proxy, *backend) {
	t.Helper()
	b := &backend{}
	s := httptest.NewServer(b)
	t.Cleanup(s.Close)
	p, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.SetTarget(s.URL); err != nil {
		t.Fatal(err)
	}
	return p, b
}

func clients(url string) (*dynamodb.Client, *sqs.Client) {
	keys := credentials.NewStaticCredentialsProvider("a", "b", "")
	return dynamodb.New(dynamodb.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: keys, Retryer: aws.NopRetryer{}}),
		sqs.New(sqs.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: keys, Retryer: aws.NopRetryer{}, DisableMessageChecksumValidation: true})
}

func put(t *testing.T, c *dynamodb.Client) error {
	_, err := c.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("t"), Item: map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "x"}}})
	return err
}

func TestCountsAndThrottles(t *testing.T) {
	p, b := start(t)
	db, _ := clients(p.URL)
	remove := p.Add(Rule{Match: func(c Call) bool { return c.Service == "dynamodb" }, Act: Throttle, Every: 2})
	var throttled int
	for range 6 {
		err := put(t, db)
		var th *types.ThrottlingException
		if errors.As(err, &th) {
			throttled++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if hits := remove(); throttled != 3 || hits != 3 || len(b.got()) != 3 || p.Counts()["dynamodb.PutItem"] != 6 {
		t.Errorf("%d throttled, %d hits, %d came through, counts %v", throttled, hits, len(b.got()), p.Counts())
	}
	if err := put(t, db); err != nil {
		t.Errorf("after the rule was removed: %v", err)
	}
}

func TestLosesAnswers(t *testing.T) {
	p, b := start(t)
	db, _ := clients(p.URL)
	p.Add(Rule{Match: func(c Call) bool { return c.Action == "PutItem" }, Act: LoseAnswer, Limit: 1})
	if err := put(t, db); err == nil {
		t.Error("the answer was not lost")
	}
	if len(b.got()) != 1 {
		t.Errorf("the call was made %d times, want once", len(b.got()))
	}
	if err := put(t, db); err != nil {
		t.Errorf("the limit of the rule: %v", err)
	}
}

func TestDoublesAndShuffles(t *testing.T) {
	p, b := start(t)
	_, q := clients(p.URL)
	send := func() {
		t.Helper()
		_, err := q.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: aws.String("http://x/q"), Entries: []sqstypes.SendMessageBatchRequestEntry{
			{Id: aws.String("1"), MessageBody: aws.String("m1"), DelaySeconds: 5}, {Id: aws.String("2"), MessageBody: aws.String("m2")},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	remove := p.Add(Rule{Match: func(c Call) bool { return c.Action == "SendMessageBatch" }, Act: Double})
	send()
	if got := b.got(); len(got) != 2 || got[0] != got[1] {
		t.Errorf("doubled: %q", got)
	}
	remove()
	p.Add(Rule{Match: func(c Call) bool { return c.Service == "sqs" }, Act: Shuffle})
	orders := map[float64]bool{}
	for range 40 {
		send()
		got := b.got()
		var m struct {
			Entries []struct {
				MessageBody  string
				DelaySeconds float64
			}
		}
		if err := json.Unmarshal([]byte(got[len(got)-1]), &m); err != nil || len(m.Entries) != 2 || m.Entries[1].MessageBody != "m2" {
			t.Fatalf("shuffled: %v %q", err, got[len(got)-1])
		}
		if m.Entries[0].DelaySeconds < 5 || m.Entries[0].DelaySeconds > 7 {
			t.Fatalf("a delay of 5 s became %v", m.Entries[0].DelaySeconds)
		}
		orders[m.Entries[1].DelaySeconds] = true
	}
	if len(orders) != 3 {
		t.Errorf("delays seen: %v, want 0, 1 and 2", orders)
	}
}

func TestKnowsTheFunction(t *testing.T) {
	p, b := start(t)
	var got []Call
	var mu sync.Mutex
	p.Watch(func(c Call) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, c)
	})
	named := p.URL + "/~my-function"
	db, _ := clients(named)
	if err := put(t, db); err != nil {
		t.Fatal(err)
	}
	store := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &named, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
	if _, err := store.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("dags/a b+c=d.yml"), Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 || got[0].Function != "my-function" || got[0].Path != "/" || got[1].Function != "my-function" || got[1].Path != "/b/dags/a b+c=d.yml" {
		t.Errorf("calls: %+v", got)
	}
	if paths := b.paths; len(paths) != 2 || paths[0] != "/" || paths[1] != "/b/dags/a%20b%2Bc%3Dd.yml" {
		t.Errorf("paths that came through: %q", b.paths)
	}
}

func TestWithoutATarget(t *testing.T) {
	p, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := http.Get(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", r.StatusCode)
	}
}
