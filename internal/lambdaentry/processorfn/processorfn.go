// Package processorfn is the function that keeps the store in step with the bucket
// of DAG files (package reconcile). It parses nothing itself.
package processorfn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awskeys"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagbucket/s3bucket"
	"github.com/gustflow/gust/internal/dagparser"
	"github.com/gustflow/gust/internal/dagparser/lambdainvoke"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/reconcile"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/version"
)

// Run is the main of the function; it never returns.
func Run() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	f, err := New(context.Background(), os.Environ(), awsapp.Options{Log: log})
	if err != nil {
		log.Error("the DAG processor cannot start", "err", err)
		os.Exit(1)
	}
	lambda.Start(f.Handle)
}

// Function handles the events of the function.
type Function struct {
	bucket string
	r      *reconcile.Reconciler
	log    *slog.Logger
}

// New wires the function from an environment. Nothing is read yet.
func New(ctx context.Context, environ []string, o awsapp.Options) (*Function, error) {
	env := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	c, err := awsapp.FromLookup(lookup, awsenv.Table, awsenv.EventsQueueURL, awsenv.TimersQueueURL, awsenv.DataBucket, awsenv.DagsBucket, awsenv.ParserFunction)
	settings, serr := awsapp.Settings(environ, env["LAMBDA_TASK_ROOT"])
	dagEnv := map[string]string{}
	var derr error
	if s := env[awsenv.DagEnv]; s != "" {
		if derr = json.Unmarshal([]byte(s), &dagEnv); derr != nil {
			derr = fmt.Errorf("%s: expected a JSON object of names and values: %w", awsenv.DagEnv, derr)
		}
	}
	if err := errors.Join(err, serr, derr); err != nil {
		return nil, err
	}
	app, err := awsapp.Open(ctx, c, o)
	if err != nil {
		return nil, err
	}
	awskeys.Enable(app)
	st, err := app.Store()
	if err != nil {
		return nil, err
	}
	bundles, err := app.Bundles(filepath.Join(os.TempDir(), "gust", "bundles"))
	if err != nil {
		return nil, err
	}
	outbox, err := app.Outbox()
	if err != nil {
		return nil, err
	}
	folder := dagbucket.NewFolder(s3bucket.New(app.S3(), c.DagsBucket), c.DagsPrefix)
	secrets, err := app.Secrets(environ)
	if err != nil {
		return nil, err
	}
	scan := dagprocessor.ScanOptions{IgnoreSyntax: dagprocessor.IgnoreSyntax(settings.Core.DagIgnoreFileSyntax)}
	loader := dagparser.NewClient(dagparser.ClientConfig{
		Invoker: lambdainvoke.New(awslambda.NewFromConfig(app.AWS()), c.ParserFunction), Folder: folder, Bucket: c.DagsBucket, Version: version.String(),
		Config: yamlloader.Defaults(settings), Env: dagEnv, Scan: scan, Timeout: settings.Core.DagbagImportTimeout,
		Variable: func(key string) (string, bool) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if v, ok, err := secrets.Variable(ctx, key); err == nil && ok {
				return v.Value, true
			}
			v, err := st.GetVariable(ctx, key)
			if err != nil && !errors.Is(err, airflow.ErrNotFound) {
				app.Log.Warn("an Airflow variable of a DAG file cannot be read: the file is loaded as if it did not exist", "key", key, "err", err)
			}
			return v.Value, err == nil
		},
	})
	state := awsenv.DagStatePrefix + blob.Hash([]byte(folder.Root()))[:16]
	paused, stale := settings.Core.DagsArePausedAtCreation, settings.DagProcessor.StaleDagThreshold
	if stale == 0 {
		stale = -1
	}
	cfg := reconcile.Config{
		Folder: folder, Store: st, Bundles: bundles, Loader: loader, Scan: scan,
		Cache: s3bucket.NewState(app.S3(), c.DataBucket, state+"/registered.json.gz"), Mark: s3bucket.NewState(app.S3(), c.DataBucket, state+"/mark.json.gz"),
		Tell: func(ctx context.Context, ids []airflow.DagID) error {
			ms := make([]engine.Message, len(ids))
			for i, id := range ids {
				ms[i] = engine.Message{Kind: engine.MessageDag, DagID: id}
			}
			return outbox.Send(ctx, ms)
		},
		PausedAtCreation: &paused, StaleThreshold: stale, LoadTimeout: settings.Core.DagbagImportTimeout, Log: app.Log,
	}
	if c.ECS == "" {
		cfg.Warn = TooLong
	}
	if url := env[awsenv.DagEventsQueueURL]; url != "" {
		cfg.Later = func(ctx context.Context, after time.Duration) error {
			return app.Queues().Send(ctx, url, []queue.Outgoing{{Body: awsenv.ReconcileInput, Delay: after}})
		}
	}
	return &Function{bucket: c.DagsBucket, r: reconcile.New(cfg), log: app.Log}, nil
}

// TooLong warns of tasks whose execution_timeout is longer than a function can run,
// in a deployment without ECS: they fail when they are dispatched.
func TooLong(dag *airflow.DAG) []airflow.Problem {
	var out []airflow.Problem
	for _, t := range dag.Tasks {
		if t.ExecutionTimeout > awsapp.MaxLambdaTimeout && awsapp.OnLambda(t.Executor) {
			out = append(out, airflow.Problem{
				Field:   string(dag.DagID) + ".tasks." + string(t.TaskID) + ".execution_timeout",
				Message: fmt.Sprintf("is %v: on Lambda a task may have at most %v, and this deployment has no ECS, so the task will fail when it is dispatched; shorten it, or enable ecs in the deployment", t.ExecutionTimeout, awsapp.MaxLambdaTimeout),
			})
		}
	}
	return out
}

// sqsEvent is what a queue's mapping sends.
type sqsEvent struct {
	Records []struct {
		MessageID   string `json:"messageId"`
		Body        string `json:"body"`
		EventSource string `json:"eventSource"`
	} `json:"Records"`
}

// Handle serves one event: a batch of the queue of DAG changes, a rule's input, or a
// notification that S3 sends itself. An error makes all of it be delivered again: a
// batch is one scan.
func (f *Function) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	var batch sqsEvent
	var cause reconcile.Cause
	if json.Unmarshal(event, &batch) == nil && len(batch.Records) > 0 && batch.Records[0].EventSource == "aws:sqs" {
		for _, m := range batch.Records {
			c, err := reconcile.ParseCause([]byte(m.Body))
			if err != nil {
				// It will never be understood; the periodic look needs no message.
				f.log.Error("a message of DAG changes is dropped", "message_id", m.MessageID, "err", err)
				continue
			}
			cause = reconcile.Join(cause, c)
		}
	} else {
		var err error
		if cause, err = reconcile.ParseCause(event); err != nil {
			return nil, err
		}
	}
	sum, err := f.r.Handle(ctx, cause.Below(f.bucket))
	if err != nil {
		return nil, err
	}
	return map[string]any{"files": sum.Files, "parsed": sum.Parsed, "dags": sum.Dags, "changed": len(sum.Changed), "import_errors": sum.ImportErrors}, nil
}
