// Package parserfn is the function that parses DAG files (package dagparser): its
// role reads the bucket of DAG files and nothing else.
package parserfn

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagbucket/s3bucket"
	"github.com/gustflow/gust/internal/dagparser"
	"github.com/gustflow/gust/internal/version"
	"github.com/gustflow/gust/internal/worker/sandbox"
)

// runtimeVariables are read by the runtime client between invocations.
var runtimeVariables = []string{"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_MAX_CONCURRENCY"}

// Run is the main of the function; it never returns. It is started by the Python
// runtime as AWS_LAMBDA_EXEC_WRAPPER, for its interpreter.
func Run() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	p, err := New(log)
	if err != nil {
		log.Error("the parser cannot start", "err", err)
		os.Exit(1)
	}
	lambda.StartHandler(Handler{p})
}

// Handler adapts a parser to the runtime: bytes in, bytes out.
type Handler struct{ P *dagparser.Parser }

// Invoke implements lambda.Handler.
func (h Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	return h.P.Handle(ctx, payload)
}

// New makes the parser from the environment, and takes from the environment what
// functions of DAG files that are called at load must not inherit.
func New(log *slog.Logger) (*dagparser.Parser, error) {
	if err := sandbox.Harden(); err != nil {
		log.Warn("the parser is less protected from the DAG files than it should be", "err", err)
	}
	cfg, err := awsapp.ClientConfig(context.Background())
	if err != nil {
		return nil, err
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil })
	p := dagparser.NewParser(dagparser.ParserOptions{
		Open:    func(name string) dagbucket.Bucket { return s3bucket.New(api, name) },
		Version: version.String(), Python: python(), Dir: filepath.Join(os.TempDir(), "gust", "dags"), Log: log,
	})
	sandbox.ScrubEnv(runtimeVariables...)
	return p, nil
}

// python is the interpreter of the managed runtime, or of PATH; "-" is none.
func python() string {
	for _, name := range []string{"python3", "/var/lang/bin/python3"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return "-"
}
