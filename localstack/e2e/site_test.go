// Package e2e is the end-to-end suite of Gust on AWS, against LocalStack: it deploys the CDK app once and then acts as a
// user would. DAG files go to S3, what became of them is read from the table and from CloudWatch Logs, faults are
// injected between the functions and AWS (faultproxy) and into the functions' processes.
//
// It runs with GUST_LOCALSTACK=1, which `make test-localstack` sets; without, its tests are skipped.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/localstack/e2e/faultproxy"
)

// prefix begins the names of all resources of stage localstack; account and region are LocalStack's.
const (
	prefix  = "gust-localstack"
	account = "000000000000"
	region  = "us-east-1"
)

// site is the deployment under test.
type site struct {
	proxy    *faultproxy.Proxy
	endpoint string
	state    string // folder of the kit's state
	scratch  string // folder that tasks know as SCRATCH
	tag      string // makes DAG ids new in every run of the suite
	env      map[string]string

	db     *dynamodb.Client
	sqs    *sqs.Client
	s3     *s3.Client
	lambda *lambda.Client
	logs   *cloudwatchlogs.Client

	store  *store.Store
	engine *engine.Engine
	runs   atomic.Int64
	calls  *recorder
}

var shared *site

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv("GUST_LOCALSTACK") != "1" {
		return m.Run()
	}
	start := time.Now()
	s, err := open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	shared = s
	defer s.proxy.Close()
	fmt.Printf("e2e: LocalStack is up and Gust deployed after %.0f s\n", time.Since(start).Seconds())
	code := m.Run()
	if err := s.calls.write(filepath.Join(s.state, "calls.json")); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	fmt.Printf("e2e: %.0f s in all\n", time.Since(start).Seconds())
	return code
}

// need returns the deployment, or skips the test.
func need(t *testing.T) *site {
	t.Helper()
	if shared == nil {
		t.Skip("needs LocalStack with Gust deployed to it: make test-localstack")
	}
	return shared
}

// open brings LocalStack up with Gust deployed to it.
func open() (*site, error) {
	s := &site{state: os.Getenv("GUST_LOCALSTACK_STATE"), tag: fmt.Sprintf("%04x", rand.IntN(1<<16))}
	if s.state == "" {
		return nil, errors.New("GUST_LOCALSTACK_STATE is not set; run this through make test-localstack")
	}
	s.scratch = filepath.Join(s.state, "scratch-"+s.tag)
	if err := os.MkdirAll(s.scratch, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.proxy, err = startProxy(s.state); err != nil {
		return nil, err
	}
	if s.endpoint, err = s.up(); err != nil {
		return nil, err
	}
	if err := s.proxy.SetTarget(s.endpoint); err != nil {
		return nil, err
	}
	s.calls = &recorder{seen: map[string]bool{}}
	s.proxy.Watch(s.calls.record)
	s.clients()
	s.env = map[string]string{}
	for _, function := range []string{awsenv.Worker + "-default", awsenv.Scheduler} { // a tool needs what either is told
		env, err := s.environment(prefix + "-" + function)
		if err != nil {
			return nil, err
		}
		maps.Copy(s.env, env)
	}
	return s, s.wire()
}

// startProxy listens where it listened before, if LocalStack still runs and gives functions that address.
func startProxy(state string) (*faultproxy.Proxy, error) {
	file := filepath.Join(state, "proxy")
	addr := "127.0.0.1:0"
	if b, err := os.ReadFile(file); err == nil {
		addr = string(b)
	}
	p, err := faultproxy.Start(addr)
	if err != nil {
		if p, err = faultproxy.Start("127.0.0.1:0"); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(file, []byte(u.Host), 0o644)
}

// up runs the kit; functions get the proxy for AWS.
func (s *site) up() (string, error) {
	if os.Getenv("GUST_LOCALSTACK_DEPLOYED") == "1" {
		b, err := os.ReadFile(filepath.Join(s.state, "endpoint"))
		return strings.TrimSpace(string(b)), err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../up.sh")
	cmd.Env = append(os.Environ(), "HOSTKIT_FUNCTION_ENDPOINT="+s.proxy.URL+"/~{function}")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("localstack/up.sh: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}

func (s *site) clients() {
	keys := credentials.NewStaticCredentialsProvider("test", "test", "")
	s.db = dynamodb.New(dynamodb.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: keys})
	s.sqs = sqs.New(sqs.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: keys})
	s.s3 = s3.New(s3.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: keys, UsePathStyle: true})
	s.lambda = lambda.New(lambda.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: keys})
	s.logs = cloudwatchlogs.New(cloudwatchlogs.Options{Region: region, BaseEndpoint: &s.endpoint, Credentials: keys})
}

// environment returns the variables of a function: what the CDK app has told it.
func (s *site) environment(function string) (map[string]string, error) {
	out, err := s.lambda.GetFunctionConfiguration(context.Background(), &lambda.GetFunctionConfigurationInput{FunctionName: &function})
	if err != nil {
		return nil, err
	}
	if out.Environment == nil {
		return nil, fmt.Errorf("function %s has no environment", function)
	}
	return out.Environment.Variables, nil
}

func (s *site) dagsBucket() string { return prefix + "-dags-" + account + "-" + region }

// upload puts files below the DAG folder of the bucket, TAG and SCRATCH replaced.
func (s *site) upload(t *testing.T, files map[string]string) {
	t.Helper()
	for name, text := range files {
		_, err := s.s3.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(s.dagsBucket()), Key: aws.String("dags/" + s.fill(name)), Body: strings.NewReader(s.fill(text)),
		})
		if err != nil {
			t.Fatalf("upload %s: %v", name, err)
		}
	}
}

// remove deletes a file from the DAG folder.
func (s *site) remove(t *testing.T, name string) {
	t.Helper()
	_, err := s.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(s.dagsBucket()), Key: aws.String("dags/" + s.fill(name))})
	if err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
}

func (s *site) fill(text string) string {
	return strings.NewReplacer("TAG", s.tag, "SCRATCH", s.scratch).Replace(text)
}

// path names a file of the scratch folder.
func (s *site) path(name string) string { return filepath.Join(s.scratch, name) }

// touch makes a file of the scratch folder.
func (s *site) touch(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// read returns a file of the scratch folder, "" while there is none.
func (s *site) read(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	} else if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits until ok, for at most the given time, and returns how long it took.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	return time.Since(start)
}

// exists reports whether a file of the scratch folder is there.
func (s *site) exists(name string) bool {
	_, err := os.Stat(s.path(name))
	return err == nil
}
