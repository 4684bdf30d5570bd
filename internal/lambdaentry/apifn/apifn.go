// Package apifn is the function that serves HTTP through a Function URL.
package apifn

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awskeys"
	"github.com/gustflow/gust/internal/awsapp/awslogs"
	"github.com/gustflow/gust/internal/awsapp/awssignin"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/restapi"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/uiapi"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Run is the main of the function; it never returns.
func Run() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	c, err := awsapp.FromEnv(awsenv.Table)
	var h http.Handler
	if err == nil {
		h, err = NewHandler(context.Background(), c, awsapp.Options{Log: log}, os.Environ())
	}
	if err != nil {
		log.Error("the API server cannot start", "err", err)
		os.Exit(1)
	}
	lambda.Start(func(ctx context.Context, r events.LambdaFunctionURLRequest) (events.LambdaFunctionURLResponse, error) {
		return Serve(ctx, h, r)
	})
}

// missedTicks is how long a DAG may be due before the scheduler counts as unwell: it
// ticks every minute.
const missedTicks = 3 * time.Minute

// NewHandler returns the handler of an installation, by the settings of an
// environment: the REST API behind sign-in. It makes no network call.
func NewHandler(ctx context.Context, c awsapp.Config, o awsapp.Options, environ []string) (http.Handler, error) {
	app, err := awsapp.Open(ctx, c, o)
	if err != nil {
		return nil, err
	}
	awskeys.Enable(app)
	st, err := app.Store()
	if err != nil {
		return nil, err
	}
	settings, err := awsapp.Settings(environ, os.Getenv("LAMBDA_TASK_ROOT"))
	if err != nil {
		return nil, err
	}
	out, err := app.Outbox()
	if err != nil {
		return nil, err
	}
	signIn, err := awssignin.Open(app, environ)
	if err != nil {
		return nil, err
	}
	ro := restapi.Options{
		Store: st, Auth: signIn.Middleware, CheckParams: taskrunner.CheckParams, Log: o.Log,
		Engine: engine.New(engine.Options{Store: st, Outbox: out, Passive: true, Log: o.Log, Config: awsapp.EngineConfig(settings)}),
		Health: func(ctx context.Context) apishell.Parts { return Parts(ctx, st, time.Now()) },
	}
	if c.DataBucket != "" {
		if ro.Logs, err = awslogs.Open(app); err != nil {
			return nil, err
		}
		bundles, err := app.Bundles(os.TempDir())
		if err != nil {
			return nil, err
		}
		ro.Bundles = bundles
	}
	return signIn.Handler(uiapi.Site{
		Options: uiapi.Options{Store: st, Engine: ro.Engine, Now: time.Now, Warn: o.Log.Warn},
		API:     restapi.New(ro), Auth: signIn.Middleware, BaseURL: signIn.BaseURL(),
	}.Handler()), nil
}

// StoreAnswers reports whether the store can be read.
func StoreAnswers(ctx context.Context, st *store.Store) error {
	_, err := st.GetPool(ctx, airflow.DefaultPool)
	return err
}

// Parts tells from what is stored how the scheduler is: nothing of it runs between
// two ticks, but a DAG that has been due for minutes says that ticks are missing.
func Parts(ctx context.Context, st *store.Store, now time.Time) apishell.Parts {
	p := apishell.Part{Status: apishell.Healthy}
	if due, ok, err := st.NextDue(ctx); err != nil || ok && now.Sub(due) > missedTicks {
		p.Status = apishell.Unhealthy
	}
	return apishell.Parts{Scheduler: p, Triggerer: p}
}

// Serve lets a handler answer a request of a Function URL.
func Serve(ctx context.Context, h http.Handler, r events.LambdaFunctionURLRequest) (events.LambdaFunctionURLResponse, error) {
	req, err := request(ctx, r)
	if err != nil {
		return events.LambdaFunctionURLResponse{StatusCode: http.StatusBadRequest, Body: err.Error()}, nil
	}
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	h.ServeHTTP(w, req)
	out := events.LambdaFunctionURLResponse{StatusCode: w.status, Headers: map[string]string{}, Cookies: w.header.Values("Set-Cookie")}
	for k, vs := range w.header {
		if k != "Set-Cookie" {
			out.Headers[k] = strings.Join(vs, ",")
		}
	}
	if body := w.body.Bytes(); utf8.Valid(body) {
		out.Body = string(body)
	} else {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return out, nil
}

func request(ctx context.Context, r events.LambdaFunctionURLRequest) (*http.Request, error) {
	body := []byte(r.Body)
	if r.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(r.Body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	u := &url.URL{Path: "/", RawQuery: r.RawQueryString}
	if r.RawPath != "" {
		p, err := url.PathUnescape(r.RawPath)
		if err != nil {
			return nil, fmt.Errorf("path: %w", err)
		}
		u.Path, u.RawPath = p, r.RawPath
	}
	req, err := http.NewRequestWithContext(ctx, r.RequestContext.HTTP.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range r.Headers {
		req.Header.Set(k, v)
	}
	if len(r.Cookies) > 0 {
		req.Header.Set("Cookie", strings.Join(r.Cookies, "; "))
	}
	req.Host, req.RemoteAddr, req.RequestURI = r.RequestContext.DomainName, r.RequestContext.HTTP.SourceIP, u.RequestURI()
	return req, nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

var _ io.Writer = (*recorder)(nil)

// Header implements http.ResponseWriter.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if !w.wrote {
		w.status, w.wrote = status, true
	}
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(b []byte) (int, error) {
	w.wrote = true
	return w.body.Write(b)
}
