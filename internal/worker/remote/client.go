package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/worker"
)

// Bundles gives the files of a bundle snapshot on this machine.
type Bundles interface {
	Materialize(ctx context.Context, hash string) (string, error)
}

// Client is a server as a worker on another machine sees it: a worker.Backend
// whose calls go over HTTP. A server that does not answer is
// airflow.ErrUnavailable. It is safe for concurrent use.
type Client struct {
	base, token string
	http        *http.Client
	bundles     Bundles

	mu   sync.Mutex
	dags map[string]*airflow.DAG // by hash
}

var _ worker.Backend = (*Client)(nil)

// NewClient returns a client of the server at a URL such as http://host:8080.
func NewClient(serverURL, token string) (*Client, error) {
	u, err := url.Parse(serverURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, airflow.Invalid("url", "%q is not the URL of a server: expected http://host:port or https://host", serverURL)
	}
	if token == "" {
		return nil, airflow.Invalid("token", "the token of workers is missing")
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = MaxWait + 40*time.Second
	return &Client{base: strings.TrimRight(serverURL, "/") + Prefix, token: token, http: &http.Client{Transport: t}, dags: map[string]*airflow.DAG{}}, nil
}

// Use sets where the files of runs come from (see Blobs). Call it first.
func (c *Client) Use(b Bundles) { c.bundles = b }

// do makes a request and returns the body of an answer 200.
func (c *Client) do(ctx context.Context, method, path string, body any) (io.ReadCloser, *failure, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, nil, fmt.Errorf("request %s: %w", path, err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, in)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, fmt.Errorf("%w: %w", airflow.ErrUnavailable, err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil, nil
	}
	defer res.Body.Close()
	var f failure
	_ = json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(&f) // not ours: the status says it
	return nil, &f, f.error(res.StatusCode)
}

// rpc makes a method call; out may be nil.
func (c *Client) rpc(ctx context.Context, method string, in call, out any) error {
	return c.post(ctx, "/call/"+method, in, out)
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	body, f, err := c.do(ctx, http.MethodPost, path, in)
	if err != nil {
		if f != nil && out != nil && len(f.Value) > 0 && string(f.Value) != "null" {
			if derr := json.Unmarshal(f.Value, out); derr != nil {
				err = errors.Join(err, derr)
			}
		}
		return err
	}
	defer body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, body)
	} else {
		err = json.NewDecoder(body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%w: the answer of %s broke off: %w", airflow.ErrUnavailable, path, err)
	}
	return nil
}

// document returns a DAG version; versions never change.
func (c *Client) document(ctx context.Context, hash string) (*airflow.DAG, error) {
	c.mu.Lock()
	d := c.dags[hash]
	c.mu.Unlock()
	if d != nil {
		return d, nil
	}
	body, _, err := c.do(ctx, http.MethodGet, "/documents/"+url.PathEscape(hash), nil)
	if err != nil {
		return nil, fmt.Errorf("DAG version %s: %w", hash, err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("%w: DAG version %s: %w", airflow.ErrUnavailable, hash, err)
	}
	if d, err = airflow.ParseDAG(b); err != nil {
		return nil, fmt.Errorf("DAG version %s: %w", hash, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.dags[hash]; have != nil {
		return have, nil
	}
	if len(c.dags) >= maxDags {
		clear(c.dags) // rare, and they are fetched again
	}
	c.dags[hash] = d
	return d, nil
}

// maxDags bounds the DAG versions kept.
const maxDags = 500

// Claim implements worker.Backend.
func (c *Client) Claim(ctx context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	var out claimed
	if err := c.rpc(ctx, "claim", call{Dispatch: d, Identity: who}, &out); err != nil {
		return nil, err
	}
	tc := out.context()
	equip := func() (err error) {
		if tc.DAG, err = c.document(ctx, out.DagHash); err != nil {
			return err
		}
		if tc.Task = tc.DAG.Task(d.Key.TaskID); tc.Task == nil {
			return fmt.Errorf("task %q is not in DAG version %s", d.Key.TaskID, out.DagHash)
		}
		if out.Bundle != "" && c.bundles != nil {
			if tc.BundleDir, err = c.bundles.Materialize(ctx, out.Bundle); err != nil {
				return fmt.Errorf("bundle snapshot %s of the run: %w", out.Bundle, err)
			}
		}
		return nil
	}
	if err := equip(); err != nil {
		if errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrThrottled) || ctx.Err() != nil {
			return nil, err // claimed, but the same worker may claim it again
		}
		// Without a worker it would count as running until its lease ends.
		r := worker.Report{Outcome: worker.OutcomeFailed, EndDate: time.Now().UTC(), Error: err.Error()}
		return nil, errors.Join(err, c.Finish(ctx, d, &r))
	}
	return tc, nil
}

// Heartbeat implements worker.Backend.
func (c *Client) Heartbeat(ctx context.Context, d worker.Dispatch, who worker.Identity) error {
	return c.rpc(ctx, "heartbeat", call{Dispatch: d, Identity: who}, nil)
}

// Check reports whether a running dispatch is still wanted; see workerhost.Checker.
func (c *Client) Check(ctx context.Context, d worker.Dispatch) error {
	return c.rpc(ctx, "check", call{Dispatch: d}, nil)
}

// Yield tells the server that a superseded dispatch has stopped.
func (c *Client) Yield(ctx context.Context, d worker.Dispatch, who worker.Identity) error {
	return c.rpc(ctx, "yield", call{Dispatch: d, Identity: who}, nil)
}

// Finish implements worker.Backend.
func (c *Client) Finish(ctx context.Context, d worker.Dispatch, r *worker.Report) error {
	return c.rpc(ctx, "finish", call{Dispatch: d, Report: r}, nil)
}

// SetXCom implements worker.Backend.
func (c *Client) SetXCom(ctx context.Context, d worker.Dispatch, x []worker.XComPush) error {
	return c.rpc(ctx, "set_xcom", call{Dispatch: d, XComs: x}, nil)
}

// TriggerDagRun implements worker.Backend.
func (c *Client) TriggerDagRun(ctx context.Context, d worker.Dispatch, r worker.TriggerRequest) (*airflow.DagRun, error) {
	run := new(airflow.DagRun)
	return run, c.rpc(ctx, "trigger_dag_run", call{Dispatch: d, Trigger: &r}, run)
}

// ClearDagRun implements worker.Backend.
func (c *Client) ClearDagRun(ctx context.Context, d worker.Dispatch, dag airflow.DagID, run airflow.RunID) error {
	return c.rpc(ctx, "clear_dag_run", call{Dispatch: d, DagID: dag, RunID: run}, nil)
}

// SetVariable implements worker.Backend.
func (c *Client) SetVariable(ctx context.Context, d worker.Dispatch, v airflow.Variable) error {
	return c.rpc(ctx, "set_variable", call{Dispatch: d, Variable: &v}, nil)
}

// DeleteVariable implements worker.Backend.
func (c *Client) DeleteVariable(ctx context.Context, d worker.Dispatch, key string) error {
	return c.rpc(ctx, "delete_variable", call{Dispatch: d, Key: key}, nil)
}

// GetXCom implements worker.Reader.
func (c *Client) GetXCom(ctx context.Context, q worker.XComQuery) (v json.RawMessage, err error) {
	err = c.rpc(ctx, "get_xcom", call{XCom: &q}, &v)
	return v, err
}

// ListXCom implements worker.Reader.
func (c *Client) ListXCom(ctx context.Context, q worker.XComQuery) (v []worker.MappedXCom, err error) {
	err = c.rpc(ctx, "list_xcom", call{XCom: &q}, &v)
	return v, err
}

// GetVariable implements worker.Reader.
func (c *Client) GetVariable(ctx context.Context, key string) (v airflow.Variable, err error) {
	err = c.rpc(ctx, "get_variable", call{Key: key}, &v)
	return v, err
}

// GetConnection implements worker.Reader.
func (c *Client) GetConnection(ctx context.Context, id string) (v airflow.Connection, err error) {
	err = c.rpc(ctx, "get_connection", call{Key: id}, &v)
	return v, err
}

// GetDagRun implements worker.Reader.
func (c *Client) GetDagRun(ctx context.Context, dag airflow.DagID, run airflow.RunID) (*airflow.DagRun, error) {
	return found[airflow.DagRun](c, ctx, "get_dag_run", call{DagID: dag, RunID: run})
}

// PreviousDagRun implements worker.Reader.
func (c *Client) PreviousDagRun(ctx context.Context, of airflow.DagRun, state airflow.DagRunState) (*airflow.DagRun, error) {
	return found[airflow.DagRun](c, ctx, "previous_dag_run", call{Run: &of, State: state})
}

// found makes a call that answers with one thing.
func found[T any](c *Client, ctx context.Context, method string, in call) (*T, error) {
	v := new(T)
	if err := c.rpc(ctx, method, in, v); err != nil {
		return nil, err
	}
	return v, nil
}

// FindDagRuns implements worker.Reader.
func (c *Client) FindDagRuns(ctx context.Context, q worker.RunQuery) (v []airflow.DagRun, err error) {
	err = c.rpc(ctx, "find_dag_runs", call{Runs: &q}, &v)
	return v, err
}

// TaskStates implements worker.Reader.
func (c *Client) TaskStates(ctx context.Context, q worker.TaskStatesQuery) (v map[airflow.RunID]map[string]airflow.TIState, err error) {
	err = c.rpc(ctx, "task_states", call{States: &q}, &v)
	return v, err
}

// GetDag implements worker.Reader.
func (c *Client) GetDag(ctx context.Context, dag airflow.DagID) (*airflow.DagModel, error) {
	return found[airflow.DagModel](c, ctx, "get_dag", call{DagID: dag})
}

// GetDagVersion implements worker.Reader.
func (c *Client) GetDagVersion(ctx context.Context, dag airflow.DagID) (*airflow.DAG, error) {
	var hash string
	if err := c.rpc(ctx, "get_dag_version", call{DagID: dag}, &hash); err != nil {
		return nil, err
	}
	return c.document(ctx, hash)
}

// NextDataInterval implements worker.Reader for DAGs that this client returned.
func (c *Client) NextDataInterval(ctx context.Context, dag *airflow.DAG, after airflow.DagRun) (start, end time.Time, ok bool, err error) {
	hash := after.DagHash
	c.mu.Lock()
	for h, d := range c.dags {
		if d == dag {
			hash = h
			break
		}
	}
	c.mu.Unlock()
	var v []time.Time
	if err := c.rpc(ctx, "next_data_interval", call{Key: hash, Run: &after}, &v); err != nil || len(v) != 2 {
		return start, end, false, err
	}
	return v[0], v[1], true, nil
}

// Pull takes up to n dispatches of queues; it waits for one for a while.
func (c *Client) Pull(ctx context.Context, queues []string, n int, wait time.Duration) ([]worker.Dispatch, error) {
	var out pullReply
	err := c.post(ctx, "/pull", pullRequest{queues, n, wait.Milliseconds()}, &out)
	return out.Dispatches, err
}

// AppendLog adds whole lines to the log of a try.
func (c *Client) AppendLog(ctx context.Context, k airflow.TaskInstanceKey, try int, lines []byte) error {
	return c.post(ctx, "/logs", logRequest{k, try, lines}, nil)
}

// Blobs are the server's blobs, to read: what bundles are made from.
func (c *Client) Blobs() blob.Store { return blobs{c} }

type blobs struct{ c *Client }

// errReadOnly is what a worker gets that wants to change blobs.
var errReadOnly = fmt.Errorf("%w: a worker only reads blobs", airflow.ErrNotAllowed)

// Put implements blob.Store.
func (b blobs) Put(context.Context, string, io.Reader) error { return errReadOnly }

// Get implements blob.Store.
func (b blobs) Get(ctx context.Context, hash string) (io.ReadCloser, error) {
	if err := blob.CheckHash(hash); err != nil {
		return nil, err
	}
	body, _, err := b.c.do(ctx, http.MethodGet, "/blobs/"+hash, nil)
	return body, err
}

// Has implements blob.Store.
func (b blobs) Has(ctx context.Context, hash string) (bool, error) {
	body, err := b.Get(ctx, hash)
	if errors.Is(err, airflow.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, body.Close()
}

// Delete implements blob.Store.
func (b blobs) Delete(context.Context, string, time.Time) (bool, error) { return false, errReadOnly }

// List implements blob.Store.
func (b blobs) List(context.Context, func(blob.Info) error) error { return errReadOnly }
