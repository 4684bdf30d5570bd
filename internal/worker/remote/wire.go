package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
)

// Limits of requests.
const (
	// maxBody bounds a request: XComs travel in it.
	maxBody = 256 << 20
	// MaxWait bounds how long a pull waits.
	MaxWait = 20 * time.Second
)

type pullRequest struct {
	Queues []string `json:"queues"`
	Max    int      `json:"max"`
	WaitMS int64    `json:"wait_ms"`
}

type pullReply struct {
	Dispatches []worker.Dispatch `json:"dispatches"`
}

// call is the body of a method call: the fields that the method has.
type call struct {
	Dispatch worker.Dispatch         `json:"dispatch"`
	Identity worker.Identity         `json:"identity"`
	Report   *worker.Report          `json:"report,omitempty"`
	XComs    []worker.XComPush       `json:"xcoms,omitempty"`
	Trigger  *worker.TriggerRequest  `json:"trigger,omitempty"`
	DagID    airflow.DagID           `json:"dag_id,omitempty"`
	RunID    airflow.RunID           `json:"run_id,omitempty"`
	Run      *airflow.DagRun         `json:"run,omitempty"`
	State    airflow.DagRunState     `json:"state,omitempty"`
	Variable *airflow.Variable       `json:"variable,omitempty"`
	Key      string                  `json:"key,omitempty"`
	XCom     *worker.XComQuery       `json:"xcom,omitempty"`
	Runs     *worker.RunQuery        `json:"runs,omitempty"`
	States   *worker.TaskStatesQuery `json:"states,omitempty"`
}

// claimed is the answer of claim: a TaskContext without what the worker has or
// fetches itself.
type claimed struct {
	Context worker.TaskContext `json:"context"`
	DagHash string             `json:"dag_hash"`
	// NextKwargs and TriggerEvent are JSON texts, "" for none: null would be something else.
	NextKwargs   string `json:"next_kwargs,omitempty"`
	TriggerEvent string `json:"trigger_event,omitempty"`
	// Bundle is the snapshot of the run's files, "" if there are none.
	Bundle string `json:"bundle,omitempty"`
}

// claimedOf makes the answer of a claim; context gives it back.
func claimedOf(tc *worker.TaskContext) claimed {
	c := claimed{Context: *tc, DagHash: tc.Run.DagHash, Bundle: tc.Run.BundleHash, NextKwargs: string(tc.NextKwargs), TriggerEvent: string(tc.TriggerEvent)}
	c.Context.NextKwargs, c.Context.TriggerEvent = nil, nil
	return c
}

func (c *claimed) context() *worker.TaskContext {
	raw := func(s string) json.RawMessage {
		if s == "" {
			return nil
		}
		return json.RawMessage(s)
	}
	c.Context.NextKwargs, c.Context.TriggerEvent = raw(c.NextKwargs), raw(c.TriggerEvent)
	return &c.Context
}

type logRequest struct {
	Key   airflow.TaskInstanceKey `json:"key"`
	Try   int                     `json:"try"`
	Lines []byte                  `json:"lines"` // whole lines
}

// failure is the body of an answer that is not 200.
type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Cause   string `json:"cause,omitempty"` // of a SupersededError
	// Value is what came with the error (the run that exists already).
	Value json.RawMessage `json:"value,omitempty"`
}

// kinds are the errors that keep their meaning on the way.
var kinds = []struct {
	name   string
	err    error
	status int
}{
	{"superseded", airflow.ErrSuperseded, http.StatusConflict},
	{"not_found", airflow.ErrNotFound, http.StatusNotFound},
	{"already_exists", airflow.ErrAlreadyExists, http.StatusConflict},
	{"conflict", airflow.ErrConflict, http.StatusConflict},
	{"too_large", airflow.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{"throttled", airflow.ErrThrottled, http.StatusTooManyRequests},
	{"unavailable", airflow.ErrUnavailable, http.StatusServiceUnavailable},
	{"not_allowed", airflow.ErrNotAllowed, http.StatusForbidden},
}

// failureOf describes an error and gives its status.
func failureOf(err error) (failure, int) {
	f := failure{Kind: "error", Message: err.Error()}
	var s *worker.SupersededError
	if errors.As(err, &s) {
		f.Cause = s.Cause
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			f.Kind = k.name
			return f, k.status
		}
	}
	return f, http.StatusInternalServerError
}

// remoteError is an error of the server.
type remoteError struct {
	message string
	err     error // its kind
}

// Error is the server's text.
func (e *remoteError) Error() string { return e.message }

// Unwrap is the kind.
func (e *remoteError) Unwrap() error { return e.err }

func (f failure) error(status int) error {
	if f.Kind == "superseded" && f.Cause != "" {
		return &worker.SupersededError{Cause: f.Cause}
	}
	for _, k := range kinds {
		if f.Kind == k.name {
			return &remoteError{f.Message, k.err}
		}
	}
	if f.Message != "" {
		return errors.New(f.Message)
	}
	// No answer of ours: a proxy, or another server.
	if status >= 500 || status == http.StatusTooManyRequests {
		return fmt.Errorf("%w: the server answered %d", airflow.ErrUnavailable, status)
	}
	return fmt.Errorf("the server answered %d %s: is this the URL of a gust server?", status, http.StatusText(status))
}
