package apifn_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/lambdaentry/apifn"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

func TestServe(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
		http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
		if r.URL.Query().Get("binary") != "" {
			_, _ = w.Write([]byte{0xff, 0xfe})
			return
		}
		c, err := r.Cookie("session")
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s %s %s %q %s %s", r.Method, r.URL.Path, r.URL.EscapedPath(), r.URL.Query()["x"], b, r.Header.Get("X-In"), c.Value)
	})
	var r events.LambdaFunctionURLRequest
	if err := json.Unmarshal([]byte(`{"version":"2.0","rawPath":"/a%2Fb/c%20d","rawQueryString":"x=1&x=2","cookies":["session=s","o=p"],"headers":{"x-in":"yes"},
"requestContext":{"domainName":"d.example","http":{"method":"POST","path":"/a/b","sourceIp":"1.2.3.4"}},"body":"`+base64.StdEncoding.EncodeToString([]byte("hello"))+`","isBase64Encoded":true}`), &r); err != nil {
		t.Fatal(err)
	}
	out, err := apifn.Serve(context.Background(), h, r)
	if err != nil {
		t.Fatal(err)
	}
	if out.StatusCode != http.StatusTeapot || out.Body != `POST /a/b/c d /a%2Fb/c%20d [1 2] "hello" yes s` || len(out.Cookies) != 2 || out.Headers["X-Two"] != "1,2" || out.IsBase64Encoded {
		t.Errorf("%+v", out)
	}
	r.RawQueryString = "binary=1"
	if out, err := apifn.Serve(context.Background(), h, r); err != nil || !out.IsBase64Encoded || out.Body != "//4=" {
		t.Errorf("%+v, %v", out, err)
	}
	r.Body = "%%%"
	if out, err := apifn.Serve(context.Background(), h, r); err != nil || out.StatusCode != http.StatusBadRequest {
		t.Errorf("a bad body: %+v, %v", out, err)
	}
}

func TestParts(t *testing.T) {
	ctx := context.Background()
	st := store.New(memkv.New(memkv.Options{}), nil)
	now := time.Now().UTC()
	if err := apifn.StoreAnswers(ctx, st); err == nil {
		t.Error("an installation without its default pool is not well")
	}
	if p := apifn.Parts(ctx, st, now); p.Scheduler.Status != apishell.Healthy {
		t.Errorf("nothing due: %+v", p)
	}
	due := now.Add(-2 * time.Minute)
	if err := st.CreateDag(ctx, airflow.DagModel{DagID: "d", NextDagRunCreateAfter: &due}); err != nil {
		t.Fatal(err)
	}
	if p := apifn.Parts(ctx, st, now); p.Scheduler.Status != apishell.Healthy {
		t.Errorf("just due: %+v", p)
	}
	if p := apifn.Parts(ctx, st, now.Add(2*time.Minute)); p.Scheduler.Status != apishell.Unhealthy || p.Triggerer.Status != apishell.Unhealthy || !p.Scheduler.Heartbeat.IsZero() {
		t.Errorf("due for minutes: %+v", p)
	}
}

// TestNewHandler checks that the function starts without a call to anything, and
// that what needs no sign-in is open and the rest is not.
func TestNewHandler(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	env := map[string]string{awsenv.Table: "t", awsenv.EventsQueueURL: "https://sqs.example/1/e", awsenv.TimersQueueURL: "https://sqs.example/1/t", awsenv.DataBucket: "b"}
	c, err := awsapp.FromLookup(func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	h, err := apifn.NewHandler(t.Context(), c, awsapp.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/api/v2/version": 200, "/api/v2/dags": 401, "/api/v2/nope": 404, "/openapi.json": 401} {
		out, err := apifn.Serve(t.Context(), h, events.LambdaFunctionURLRequest{RawPath: path, RequestContext: events.LambdaFunctionURLRequestContext{HTTP: events.LambdaFunctionURLRequestContextHTTPDescription{Method: "GET"}}})
		if err != nil || out.StatusCode != want {
			t.Errorf("%s: %d %.200s %v, expected %d", path, out.StatusCode, out.Body, err, want)
		}
	}
}
