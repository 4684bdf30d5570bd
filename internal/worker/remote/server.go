package remote

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/worker"
)

// ServerOptions are what a Server is built from; all but Log are required.
type ServerOptions struct {
	// Token is what workers must present; at least 16 characters.
	Token    string
	Executor *Executor
	// Backend answers the workers. It must not materialise bundles: workers fetch
	// the files themselves.
	Backend worker.Backend
	// Document returns a DAG version by its hash.
	Document func(ctx context.Context, hash string) ([]byte, error)
	// Latest returns the hash of a DAG's current version.
	Latest func(ctx context.Context, dag airflow.DagID) (string, error)
	Blobs  blob.Store
	// AppendLog adds whole lines to the log of a try.
	AppendLog func(k airflow.TaskInstanceKey, try int, lines []byte) error
	Log       *slog.Logger
}

// Server serves workers; it is an http.Handler for everything below Prefix.
type Server struct {
	o     ServerOptions
	token [sha256.Size]byte
	mux   *http.ServeMux
}

// MinToken is the least length of a token.
const MinToken = 16

// NewServer returns a server.
func NewServer(o ServerOptions) (*Server, error) {
	if len(o.Token) < MinToken {
		return nil, fmt.Errorf("the token of workers has %d characters: expected at least %d, such as `openssl rand -hex 32` prints", len(o.Token), MinToken)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, token: sha256.Sum256([]byte(o.Token)), mux: http.NewServeMux()}
	s.mux.HandleFunc("POST "+Prefix+"/pull", s.pull)
	s.mux.HandleFunc("POST "+Prefix+"/call/{method}", s.call)
	s.mux.HandleFunc("POST "+Prefix+"/logs", s.logs)
	s.mux.HandleFunc("GET "+Prefix+"/documents/{hash}", s.document)
	s.mux.HandleFunc("GET "+Prefix+"/blobs/{hash}", s.blob)
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(token))
	if !ok || subtle.ConstantTimeCompare(sum[:], s.token[:]) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		write(w, http.StatusUnauthorized, failure{Kind: "not_allowed", Message: "the worker's token is not that of this server"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

func write(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"kind":"error","message":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the worker repeats a call whose answer it did not get
}

func (s *Server) fail(w http.ResponseWriter, err error, value any) {
	f, status := failureOf(err)
	if value != nil {
		if b, merr := json.Marshal(value); merr == nil {
			f.Value = b
		}
	}
	write(w, status, f)
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(r.Body).Decode(v)
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		write(w, http.StatusRequestEntityTooLarge, failure{Kind: "too_large", Message: fmt.Sprintf("the request is larger than %d bytes", maxBody)})
	case err != nil:
		write(w, http.StatusBadRequest, failure{Kind: "error", Message: "the request cannot be read: " + err.Error()})
	}
	return err == nil
}

func (s *Server) pull(w http.ResponseWriter, r *http.Request) {
	var in pullRequest
	if !decode(w, r, &in) {
		return
	}
	if len(in.Queues) == 0 || in.Max < 1 {
		write(w, http.StatusBadRequest, failure{Kind: "error", Message: "queues and max are needed"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(max(0, time.Duration(in.WaitMS)*time.Millisecond), MaxWait))
	defer cancel()
	ds := s.o.Executor.pull(ctx, in.Queues, min(in.Max, 100))
	if r.Context().Err() != nil && len(ds) > 0 { // nobody is there to take them
		for _, d := range ds {
			s.o.Executor.claimed(d)
		}
		_ = s.o.Executor.Submit(context.WithoutCancel(r.Context()), ds) // closing: the engine sends them again
		return
	}
	write(w, http.StatusOK, pullReply{ds})
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	var in logRequest
	if !decode(w, r, &in) {
		return
	}
	if len(in.Lines) == 0 || in.Lines[len(in.Lines)-1] != '\n' || in.Try < 1 {
		write(w, http.StatusBadRequest, failure{Kind: "error", Message: "whole lines and a try are needed"})
		return
	}
	if err := s.o.AppendLog(in.Key, in.Try, in.Lines); err != nil {
		s.fail(w, err, nil)
		return
	}
	write(w, http.StatusOK, struct{}{})
}

func (s *Server) document(w http.ResponseWriter, r *http.Request) {
	b, err := s.o.Document(r.Context(), r.PathValue("hash"))
	if err != nil {
		s.fail(w, err, nil)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request) {
	hash := r.PathValue("hash")
	if err := blob.CheckHash(hash); err != nil {
		write(w, http.StatusBadRequest, failure{Kind: "error", Message: err.Error()})
		return
	}
	b, err := s.o.Blobs.Get(r.Context(), hash)
	if err != nil {
		s.fail(w, err, nil)
		return
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(w, b) // the worker verifies what it got
}

// call answers one method of worker.Backend.
func (s *Server) call(w http.ResponseWriter, r *http.Request) {
	var in call
	if !decode(w, r, &in) {
		return
	}
	m, ok := methods[r.PathValue("method")]
	if !ok {
		write(w, http.StatusNotFound, failure{Kind: "error", Message: fmt.Sprintf("no method %q: worker and server are of different versions", r.PathValue("method"))})
		return
	}
	v, err := m(s, r.Context(), &in)
	if err != nil {
		s.fail(w, err, v)
		return
	}
	write(w, http.StatusOK, v)
}

// need reports what a call lacks, so that no method is given nil.
func need[T any](p *T, name string) error {
	if p == nil {
		return airflow.Invalid(name, "is missing")
	}
	return nil
}

var methods = map[string]func(s *Server, ctx context.Context, in *call) (any, error){
	"claim": func(s *Server, ctx context.Context, in *call) (any, error) {
		tc, err := s.o.Backend.Claim(ctx, in.Dispatch, in.Identity)
		if !errors.Is(err, airflow.ErrUnavailable) && !errors.Is(err, airflow.ErrThrottled) {
			s.o.Executor.claimed(in.Dispatch)
		}
		if err != nil {
			return nil, err
		}
		return claimedOf(tc), nil
	},
	"heartbeat": func(s *Server, ctx context.Context, in *call) (any, error) {
		return nil, s.o.Backend.Heartbeat(ctx, in.Dispatch, in.Identity)
	},
	"check": func(s *Server, ctx context.Context, in *call) (any, error) {
		c, ok := s.o.Backend.(interface {
			Check(context.Context, worker.Dispatch) error
		})
		if !ok {
			return nil, nil
		}
		return nil, c.Check(ctx, in.Dispatch)
	},
	"yield": func(s *Server, ctx context.Context, in *call) (any, error) {
		y, ok := s.o.Backend.(interface {
			Yield(context.Context, worker.Dispatch, worker.Identity) error
		})
		if !ok {
			return nil, nil
		}
		return nil, y.Yield(ctx, in.Dispatch, in.Identity)
	},
	"finish": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.Report, "report"); err != nil {
			return nil, err
		}
		return nil, s.o.Backend.Finish(ctx, in.Dispatch, in.Report)
	},
	"set_xcom": func(s *Server, ctx context.Context, in *call) (any, error) {
		return nil, s.o.Backend.SetXCom(ctx, in.Dispatch, in.XComs)
	},
	"trigger_dag_run": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.Trigger, "trigger"); err != nil {
			return nil, err
		}
		return s.o.Backend.TriggerDagRun(ctx, in.Dispatch, *in.Trigger)
	},
	"clear_dag_run": func(s *Server, ctx context.Context, in *call) (any, error) {
		return nil, s.o.Backend.ClearDagRun(ctx, in.Dispatch, in.DagID, in.RunID)
	},
	"set_variable": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.Variable, "variable"); err != nil {
			return nil, err
		}
		return nil, s.o.Backend.SetVariable(ctx, in.Dispatch, *in.Variable)
	},
	"delete_variable": func(s *Server, ctx context.Context, in *call) (any, error) {
		return nil, s.o.Backend.DeleteVariable(ctx, in.Dispatch, in.Key)
	},
	"get_xcom": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.XCom, "xcom"); err != nil {
			return nil, err
		}
		return s.o.Backend.GetXCom(ctx, *in.XCom)
	},
	"list_xcom": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.XCom, "xcom"); err != nil {
			return nil, err
		}
		return s.o.Backend.ListXCom(ctx, *in.XCom)
	},
	"get_variable": func(s *Server, ctx context.Context, in *call) (any, error) {
		return s.o.Backend.GetVariable(ctx, in.Key)
	},
	"get_connection": func(s *Server, ctx context.Context, in *call) (any, error) {
		return s.o.Backend.GetConnection(ctx, in.Key)
	},
	"get_dag_run": func(s *Server, ctx context.Context, in *call) (any, error) {
		return s.o.Backend.GetDagRun(ctx, in.DagID, in.RunID)
	},
	"previous_dag_run": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.Run, "run"); err != nil {
			return nil, err
		}
		return s.o.Backend.PreviousDagRun(ctx, *in.Run, in.State)
	},
	"find_dag_runs": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.Runs, "runs"); err != nil {
			return nil, err
		}
		return s.o.Backend.FindDagRuns(ctx, *in.Runs)
	},
	"task_states": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.States, "states"); err != nil {
			return nil, err
		}
		return s.o.Backend.TaskStates(ctx, *in.States)
	},
	"get_dag": func(s *Server, ctx context.Context, in *call) (any, error) {
		return s.o.Backend.GetDag(ctx, in.DagID)
	},
	"get_dag_version": func(s *Server, ctx context.Context, in *call) (any, error) {
		return s.o.Latest(ctx, in.DagID)
	},
	"next_data_interval": func(s *Server, ctx context.Context, in *call) (any, error) {
		if err := need(in.Run, "run"); err != nil {
			return nil, err
		}
		doc, err := s.o.Document(ctx, in.Key)
		if err != nil {
			return nil, err
		}
		dag, err := airflow.ParseDAG(doc)
		if err != nil {
			return nil, err
		}
		start, end, ok, err := s.o.Backend.NextDataInterval(ctx, dag, *in.Run)
		if err != nil || !ok {
			return nil, err
		}
		return []time.Time{start, end}, nil
	},
}
