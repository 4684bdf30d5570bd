package restapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
)

// TaskInstancesLogResponse is a part of a log.
type TaskInstancesLogResponse struct {
	Content           []tasklog.Entry `json:"content"`
	ContinuationToken *string         `json:"continuation_token"`
}

type logQuery struct {
	tiPath
	Try         int     `path:"try_number" gt:"0"`
	FullContent bool    `query:"full_content" default:"false"`
	MapIndex    int     `query:"map_index" default:"-1"`
	Token       *string `query:"token"`
	// Follow is Gust's own: lines are sent as they are written, where the server
	// may take its time.
	Follow bool   `query:"follow" default:"false" doc:"Send lines as they are written until the try has ended (application/x-ndjson)."`
	Accept string `header:"accept"`
}

const (
	// logPart bounds one answer; what is left comes with the continuation token.
	logPart = 1 << 20
	// logFull bounds an answer with full_content: an API function's may have 6 MB.
	logFull = 5 << 20
	// followEvery is how often a followed log is looked at.
	followEvery = 500 * time.Millisecond

	ndjson = "application/x-ndjson"
	// continuationHeader is where an answer of lines has its token.
	continuationHeader = "Airflow-Continuation-Token"
)

func registerLogs(a *API) {
	Handle(a, Op{
		Method: "GET", Path: Base + "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}", ID: "get_log", Tag: "Task Instance", Summary: "Get Log",
		Action: auth.Read, Resource: auth.ResourceTaskLog, Answers: []any{TaskInstancesLogResponse{}}, ContentTypes: []string{ndjson},
	}, getLog)
}

// logToken is what a continuation token holds; it names the try, so that a token
// of another log is refused.
type logToken struct {
	Place string `json:"p"`
	Try   string `json:"t"`
}

func (r *Request) logPlace(in *logQuery) (string, error) {
	if in.Token == nil || *in.Token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*in.Token)
	var t logToken
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.Try != r.logName(in) {
		return "", BadRequest("Bad Signature. Please use only the tokens provided by the API.")
	}
	return t.Place, nil
}

func (r *Request) logName(in *logQuery) string {
	return uuidOf("log", in.DagID, in.RunID, in.TaskID, in.MapIndex, in.Try)[:8]
}

func (r *Request) logTokenOf(in *logQuery, place string) *string {
	b, err := json.Marshal(logToken{place, r.logName(in)})
	if err != nil {
		return nil // unreachable: texts always encode
	}
	return ptrTo(base64.RawURLEncoding.EncodeToString(b))
}

// findTry returns a try of the path's instance and whether it is over.
func (r *Request) findTry(in *logQuery) (tasklog.Try, bool, error) {
	missing := NotFound("TaskInstance not found")
	ts, err := r.mustRowsOfRun()
	if err != nil {
		return tasklog.Try{}, false, err
	}
	t := find(ts, in.TaskID, in.MapIndex)
	if t == nil {
		return tasklog.Try{}, false, missing
	}
	one := []tiRow{*t}
	if err := r.fill(r.Context(), one); err != nil {
		return tasklog.Try{}, false, err
	}
	t = &one[0]
	if in.Try > t.TryNumber {
		return tasklog.Try{}, false, missing
	}
	row := t.row
	if row == nil || row.TryNumber != in.Try {
		row = nil
		old, err := r.API.Store.ListTries(r.Context(), t.TaskInstanceKey)
		if err != nil {
			return tasklog.Try{}, false, err
		}
		for i := range old {
			if old[i].TryNumber == in.Try {
				row = &old[i]
			}
		}
	}
	try := tasklog.Try{Key: t.TaskInstanceKey, Number: in.Try}
	if row != nil {
		try.Hostname, try.Moved = row.Hostname, row.RescheduleCount > 0 || row.Resume != nil
		if row.FirstStart != nil {
			try.Start = *row.FirstStart
		}
	}
	over := in.Try < t.TryNumber || t.State.Finished() || t.State == airflow.TINone && row != nil && row.Status == store.AttemptDone || t.State == airflow.TIUpForRetry
	if over && row != nil && row.EndDate != nil {
		try.End = *row.EndDate
	}
	return try, over, nil
}

var errPartFull = errors.New("the answer is full")

// readLog reads entries from a place on, at most so many bytes.
func (r *Request) readLog(ctx context.Context, try tasklog.Try, from string, limit int, f func(tasklog.Entry) error) (next string, full bool, err error) {
	if r.API.Logs == nil {
		return from, false, nil
	}
	size := 0
	next, err = r.API.Logs.ReadTry(ctx, try, from, func(e tasklog.Entry) error {
		n := len(e.Event) + len(e.Logger) + 96
		for k, v := range e.Extra {
			n += len(k) + len(v)
		}
		if size > 0 && size+n > limit {
			return errPartFull
		}
		size += n
		return f(e)
	})
	switch {
	case errors.Is(err, errPartFull):
		return next, true, nil
	case errors.Is(err, airflow.ErrNotFound):
		return from, false, nil
	}
	return next, false, err
}

func getLog(r *Request, in *logQuery) (Raw, error) {
	as := accepts(in.Accept, "application/json", ndjson)
	if as == "" {
		return Raw{}, Errorf(http.StatusNotAcceptable, "Only application/json or application/x-ndjson is supported")
	}
	place, err := r.logPlace(in)
	if err != nil {
		return Raw{}, err
	}
	try, over, err := r.findTry(in)
	if err != nil {
		return Raw{}, err
	}
	if as == ndjson && in.Follow && r.API.Follow > 0 {
		return Raw{ContentType: ndjson, Stream: func(ctx context.Context, w io.Writer, flush func()) error {
			return r.followLog(ctx, w, flush, in, try, place)
		}}, nil
	}
	limit := logPart
	if in.FullContent {
		limit = logFull
	}
	out := TaskInstancesLogResponse{Content: []tasklog.Entry{}}
	next, full, err := r.readLog(r.Context(), try, place, limit, func(e tasklog.Entry) error {
		out.Content = append(out.Content, e)
		return nil
	})
	if err != nil {
		return Raw{}, err
	}
	if full || !over {
		out.ContinuationToken = r.logTokenOf(in, next)
	}
	if as == "application/json" {
		return jsonRaw(out)
	}
	if out.ContinuationToken != nil {
		r.SetHeader(continuationHeader, *out.ContinuationToken)
	}
	var body []byte
	for _, e := range out.Content {
		line, err := logLine(e)
		if err != nil {
			return Raw{}, err
		}
		body = append(body, line...)
	}
	return Raw{ContentType: ndjson, Body: body}, nil
}

// logLine is an entry as a line; unlike in a list its timestamp is null where it has none.
func logLine(e tasklog.Entry) ([]byte, error) {
	if e.Timestamp == "" {
		extra := map[string]json.RawMessage{"timestamp": json.RawMessage("null")}
		for k, v := range e.Extra {
			extra[k] = v
		}
		e.Extra = extra
	}
	b, err := json.Marshal(e)
	return append(b, '\n'), err
}

// followLog sends lines as they are written until the try is over, the client
// goes, or the server's time for one answer is up.
func (r *Request) followLog(ctx context.Context, w io.Writer, flush func(), in *logQuery, try tasklog.Try, place string) error {
	ctx, cancel := context.WithTimeout(ctx, r.API.Follow)
	defer cancel()
	flush()
	for {
		// Ask before reading: what was written before the end is then read.
		_, over, err := r.findTry(in)
		if err != nil {
			return err
		}
		next, full, err := r.readLog(ctx, try, place, logPart, func(e tasklog.Entry) error {
			line, err := logLine(e)
			if err == nil {
				_, err = w.Write(line)
			}
			return err
		})
		if err != nil {
			return err
		}
		if place = next; full {
			continue
		}
		flush()
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}
