// Package dynamotest gives tests a DynamoDB: DynamoDB Local, one process for each test binary, a table for each test.
// It is imported by tests only.
//
// The jars come from localstack/install-dynamodb-local.sh. A test that needs them and does not find them is skipped with
// that advice; with GUST_REQUIRE_DYNAMODB=1 it fails.
package dynamotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

// Version is that of DynamoDB Local, as pinned in localstack/pom.xml.
const Version = "2.6.1"

// Names of environment variables.
const (
	EnvJars    = "GUST_DYNAMODB_LOCAL"   // folder of the jars, instead of the one in the user's cache folder
	EnvRequire = "GUST_REQUIRE_DYNAMODB" // 1: fail instead of skipping
)

// Start returns a client of the DynamoDB Local of this test binary, which it starts when it is the first to ask. The
// process ends with the test binary, however that ends.
func Start(t testing.TB) *dynamodb.Client {
	t.Helper()
	return StartWith(t, func(*dynamodb.Options) {})
}

// StartWith is Start for a client with options of its own: middleware, another HTTP client.
func StartWith(t testing.TB, f func(*dynamodb.Options)) *dynamodb.Client {
	t.Helper()
	s, err := server()
	var missing *missingError
	switch {
	case errors.As(err, &missing) && os.Getenv(EnvRequire) != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return dynamodb.New(dynamodb.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s), Credentials: credentials.NewStaticCredentialsProvider("gust", "gust", ""), HTTPClient: connections,
	}, f)
}

// connections are shared by all clients, so that a test binary with thousands of them does not have as many open.
var connections = awshttp.NewBuildableClient()

var tables atomic.Int64

// Table makes an empty table, which is deleted at the end of the test, and returns its name.
func Table(t testing.TB, client *dynamodb.Client) string {
	t.Helper()
	name := fmt.Sprintf("gust-test-%d-%d", os.Getpid(), tables.Add(1))
	if err := dynamokv.CreateTable(t.Context(), client, name, kv.DefaultSchema()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := client.DeleteTable(context.Background(), &dynamodb.DeleteTableInput{TableName: &name}); err != nil {
			t.Errorf("delete table %s: %v", name, err)
		}
	})
	return name
}

// Open returns a store on an empty table of its own. It is closed at the end of the test.
func Open(t testing.TB) *dynamokv.Store {
	t.Helper()
	client := Start(t)
	return OpenTable(t, client, Table(t, client))
}

// OpenTable returns a store on a table. It is closed at the end of the test. A try may take a minute: the machine that
// runs the tests is often busy.
func OpenTable(t testing.TB, client *dynamodb.Client, table string) *dynamokv.Store {
	t.Helper()
	s, err := dynamokv.New(dynamokv.Options{Client: client, Table: table, AttemptTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// missingError says what must be installed.
type missingError struct{ what string }

func (e *missingError) Error() string {
	return e.what + "; to run the tests on DynamoDB Local: localstack/install-dynamodb-local.sh, and Java 17 or newer"
}

// server starts the process once and returns its address.
var server = sync.OnceValues(func() (string, error) {
	jars, err := findJars()
	if err != nil {
		return "", err
	}
	java, err := findJava()
	if err != nil {
		return "", err
	}
	for try := 1; ; try++ { // another process may take the port before Java does
		addr, err := launch(java, jars)
		if err == nil || try == 3 {
			return addr, err
		}
	}
})

func findJars() (string, error) {
	dir := os.Getenv(EnvJars)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", &missingError{"no cache folder (" + err.Error() + "), and " + EnvJars + " is not set"}
		}
		dir = filepath.Join(cache, "gust", "dynamodb-local-"+Version)
	}
	jar := filepath.Join(dir, "DynamoDBLocal-"+Version+".jar")
	if _, err := os.Stat(jar); err != nil {
		return "", &missingError{"no " + jar}
	}
	return dir, nil
}

func findJava() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if java := filepath.Join(home, "bin", "java"); exec.Command(java, "-version").Run() == nil {
			return java, nil
		}
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", &missingError{"no java"}
	}
	return java, nil
}

// startTimeout is long because several test binaries may start theirs at once on a small machine.
const startTimeout = 90 * time.Second

func launch(java, jars string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return "", err
	}
	out := &tail{}
	// A short-lived process is faster without the optimizing compiler, which competes with the tests for the processors.
	args := []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.library.path=" + jars, "-cp", filepath.Join(jars, "*"),
		"com.amazonaws.services.dynamodbv2.local.main.ServerRunner", "-inMemory", "-sharedDb", "-disableTelemetry", "-port", strconv.Itoa(port)}
	died := make(chan error, 1)
	go func() {
		// The kernel kills the child with the thread that started it, so this one must last as long as the tests.
		runtime.LockOSThread()
		cmd := mortal(java, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = os.TempDir(), out, out
		died <- cmd.Run()
	}()
	addr := "http://127.0.0.1:" + strconv.Itoa(port)
	for deadline := time.Now().Add(startTimeout); ; {
		select {
		case err := <-died:
			return "", fmt.Errorf("DynamoDB Local ended at its start: %v; it said:\n%s", err, out)
		case <-time.After(50 * time.Millisecond):
		}
		if resp, err := http.Get(addr); err == nil { //nolint:noctx // a local process
			_ = resp.Body.Close()
			return addr, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("DynamoDB Local did not answer within %v; it said:\n%s", startTimeout, out)
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *tail) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > 64<<10 {
		o.buf.Reset()
	}
	return o.buf.Write(p)
}

func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
