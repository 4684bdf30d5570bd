package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/apishell"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
)

// Base is where the REST API lies.
const Base = "/api/v2"

// Options are what an API serves from. Store and Engine are required.
type Options struct {
	Store  *store.Store
	Engine *engine.Engine
	// Auth authenticates requests (auth.Service.Middleware). nil, in tests only:
	// everybody is an Admin named "admin".
	Auth func(next http.Handler, open func(*http.Request) bool) http.Handler
	// Logs reads task logs; nil: there are none.
	Logs tasklog.Reader
	// Bundles reads the files of a DAG version; nil: the source is not served.
	Bundles BundleReader
	// Health tells how the parts of the installation are; nil: nothing is known.
	Health func(context.Context) apishell.Parts
	// Reparse asks for a DAG file, by its path in the bundle, to be read again; nil:
	// no file is read here.
	Reparse func(path string)
	// DagDeleted is told of a DAG that was deleted, so that its file is read as new;
	// may be nil.
	DagDeleted func(ctx context.Context, id airflow.DagID) error
	// CheckParams checks a run's conf against a DAG's params; nil: not checked.
	CheckParams func(*airflow.DAG, json.RawMessage) error
	// Settings are the configuration by section and key, if it may be shown ([api]
	// expose_config); nil: it is not.
	Settings func() []Setting
	// Process is the process that the parts of the installation live in; nil: they
	// are no processes.
	Process *Process
	// TestConnection tries a connection ([core] test_connection); nil: disabled, as
	// it is by default.
	TestConnection func(context.Context, airflow.Connection) (ok bool, message string)
	// Follow lets answers take their time (logs that are followed, waiting for a
	// run): a server of its own may, a function should not for long.
	Follow time.Duration
	// Sensitive reports whether a value by that name is a secret; nil: by the
	// usual words.
	Sensitive func(name string) bool
	// BundleName is the name of the bundle of all DAGs. Default dags-folder.
	BundleName string
	// MaximumPageLimit and FallbackPageLimit are those of [api]. Defaults 100 and 50.
	MaximumPageLimit, FallbackPageLimit int
	// ReadLimit bounds how many items a list reads that no index answers. Default 5000.
	ReadLimit int
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: discarded
}

// BundleReader reads one file of a bundle snapshot.
type BundleReader interface {
	// ReadFile returns the content of a file, airflow.ErrNotFound if there is none.
	ReadFile(ctx context.Context, hash, path string) ([]byte, error)
}

// API is the handler. Operations are registered before the first request.
type API struct {
	Options
	root    *node
	ops     []*operation
	handler http.Handler
	doc     func() []byte
	numbers numbered
}

// Op says what an operation is.
type Op struct {
	Method, Path string // Path from the root, with {name} and, last, {name...}
	ID           string // Airflow's operationId
	Tag, Summary string
	// Open operations need no authentication; others need Action on Resource. The
	// DAG is that of {dag_id} in the path; "~" and none ask whether any DAG will do,
	// and the handler asks again for what it shows.
	Open     bool
	Action   auth.Action
	Resource auth.Resource
	// Status is that of success. Default 200, 204 for Empty.
	Status int
	// Answers are further shapes of a successful answer, for the description.
	Answers []any
	// ContentTypes are those beside JSON that a successful answer may have.
	ContentTypes []string
	// Indexed names the filters and orders that the store answers without reading
	// what it does not return; the others read at most Options.ReadLimit items.
	Indexed []string
	// Event is the audit event of a change. Default the ID; "-" for none (a POST
	// that only reads).
	Event string
}

type operation struct {
	Op
	params  []string // names of the path's parameters, in order
	input   reflect.Type
	output  reflect.Type
	body    reflect.StructField
	hasBody bool
	once    sync.Once
	plan    *plan
	call    func(*Request, reflect.Value) (any, error)
}

func (op *operation) binding() *plan {
	op.once.Do(func() { op.plan = planOf(op.input, false) })
	return op.plan
}

// Request is one call of an operation.
type Request struct {
	*http.Request
	API *API
	Op  *Op
	// Who asks.
	Who auth.Identity
	// RawBody is the body as it came, nil if there was none.
	RawBody json.RawMessage

	path   map[string]string
	dag    *airflow.DagModel
	header http.Header
}

// Path returns a parameter of the path, "" if it has none of that name.
func (r *Request) Path(name string) string { return r.path[name] }

// SetHeader sets a header of the answer.
func (r *Request) SetHeader(name, value string) { r.header.Set(name, value) }

// Empty is an answer without a body: 204.
type Empty struct{}

// Raw is an answer that is not JSON, or that is written as it comes.
type Raw struct {
	ContentType string
	Body        []byte
	// Stream, instead of Body, writes the answer; each call of flush sends what was written.
	Stream func(ctx context.Context, w io.Writer, flush func()) error
}

// New returns the API with all of Airflow's operations that are served.
func New(o Options) *API {
	if o.BundleName == "" {
		o.BundleName = "dags-folder"
	}
	if o.MaximumPageLimit <= 0 {
		o.MaximumPageLimit = 100
	}
	if o.FallbackPageLimit <= 0 {
		o.FallbackPageLimit = 50
	}
	if o.ReadLimit <= 0 {
		o.ReadLimit = 5000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sensitive == nil {
		o.Sensitive = sensitive
	}
	a := &API{Options: o, root: &node{}}
	a.doc = sync.OnceValue(a.openAPI)
	a.handler = http.HandlerFunc(a.serve)
	if o.Auth != nil {
		a.handler = o.Auth(a.handler, a.Open)
	} else {
		next := a.handler
		a.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(auth.With(r.Context(), auth.Identity{Name: "admin", Role: auth.Admin, Kind: auth.KindUser, Source: r.RemoteAddr})))
		})
	}
	registerAll(a)
	return a
}

// Handle registers an operation. I is a struct whose fields have the tags path,
// query or header, and a Body, if it takes one.
func Handle[I, O any](a *API, op Op, h func(*Request, *I) (O, error)) {
	if op.Status == 0 {
		op.Status = http.StatusOK
		if reflect.TypeFor[O]() == reflect.TypeFor[Empty]() {
			op.Status = http.StatusNoContent
		}
	}
	if op.Event == "" && op.Method != http.MethodGet {
		op.Event = op.ID
	}
	o := &operation{Op: op, input: reflect.TypeFor[I](), output: reflect.TypeFor[O]()}
	o.body, o.hasBody = o.input.FieldByName("Body")
	o.call = func(r *Request, in reflect.Value) (any, error) {
		return h(r, in.Addr().Interface().(*I))
	}
	a.root.add(o)
	a.ops = append(a.ops, o)
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Serves reports whether an operation has the path, with any method.
func (a *API) Serves(r *http.Request) bool {
	m := a.root.find(r.Method, r.URL.EscapedPath())
	return m.op != nil || m.allowed != nil
}

// Open reports whether a request needs no authentication: open operations, and
// what is refused whoever asks.
func (a *API) Open(r *http.Request) bool {
	m := a.root.find(r.Method, r.URL.EscapedPath())
	return m.op == nil || m.op.Open
}

func (a *API) serve(w http.ResponseWriter, hr *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	m := a.root.find(hr.Method, hr.URL.EscapedPath())
	if m.op == nil {
		if m.allowed != nil {
			h.Set("Allow", m.allow())
			a.fail(w, hr, Errorf(http.StatusMethodNotAllowed, "Method Not Allowed"))
			return
		}
		writeJSON(w, hr, http.StatusNotFound, map[string]string{"error": "API route not found"})
		return
	}
	r := &Request{Request: hr, API: a, Op: &m.op.Op, path: map[string]string{}, header: h}
	for i, name := range m.op.params {
		r.path[name] = m.values[i]
	}
	out, err := a.run(w, r, m.op)
	if err != nil {
		a.fail(w, hr, err)
		return
	}
	switch v := out.(type) {
	case Empty:
		h.Set("Content-Type", "application/json")
		w.WriteHeader(m.op.Status)
	case Raw:
		a.writeRaw(w, r, m.op.Status, v)
	default:
		writeJSON(w, hr, m.op.Status, v)
	}
}

// run does everything between the route and the answer. A panic is an error, so
// that one request cannot end the server.
func (a *API) run(w http.ResponseWriter, r *Request, op *operation) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if !op.Open {
		var ok bool
		if r.Who, ok = auth.From(r.Context()); !ok {
			return nil, Errorf(http.StatusUnauthorized, "Not authenticated")
		}
		if err := r.permit(op); err != nil {
			return nil, err
		}
	}
	raw, bodyErr := readBody(w, r.Request)
	r.RawBody = raw
	if op.Event != "" && op.Event != "-" && !op.Open {
		r.audit(op)
	}
	if bodyErr != nil {
		return nil, bodyErr
	}
	in := reflect.New(op.input).Elem()
	var ps problems
	op.binding().bindParams(in, r.path, r.URL.Query(), r.Header, &ps)
	if op.hasBody {
		bindBody(in.FieldByIndex(op.body.Index), raw, &ps)
	}
	if len(ps) > 0 {
		return nil, Invalid(ps...)
	}
	return op.call(r, in)
}

// bindBody fills a body; a pointer is one that may be missing.
func bindBody(v reflect.Value, raw json.RawMessage, ps *problems) {
	if v.Kind() == reflect.Pointer {
		if raw == nil || isNull(raw) {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if raw == nil {
		ps.add("missing", []any{"body"}, nil, nil, "Field required")
		return
	}
	f := field{name: "body"}
	if v.Type() == rawType {
		f.setJSON(v, raw, []any{"body"}, ps)
		return
	}
	bindObject(v, raw, []any{"body"}, ps)
}

// permit checks the operation's permission.
func (r *Request) permit(op *operation) error {
	dag := r.path["dag_id"]
	var tags []string
	if dag == "~" {
		dag = ""
	}
	if dag != "" && !r.Who.Unlimited() {
		m, err := r.Dag()
		if err != nil && !errors.Is(err, airflow.ErrNotFound) {
			return err
		}
		tags = m.Tags
	}
	if !r.Who.May(op.Action, op.Resource, dag, tags) {
		return Errorf(http.StatusForbidden, "Forbidden")
	}
	return nil
}

// Dag returns the DAG of the path; it is read once.
func (r *Request) Dag() (airflow.DagModel, error) {
	if r.dag == nil {
		m, err := r.API.Store.GetDag(r.Context(), airflow.DagID(r.path["dag_id"]))
		if err != nil {
			return m, err
		}
		r.dag = &m
	}
	return *r.dag, nil
}

// May reports whether who asks may do what the operation does to a DAG: for the
// rows of lists.
func (r *Request) May(m airflow.DagModel) bool {
	return r.Who.May(r.Op.Action, r.Op.Resource, string(m.DagID), m.Tags)
}

// fail answers an error.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, internal := answerOf(err)
	if internal {
		if r.Context().Err() != nil {
			return // the client has gone
		}
		a.Log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	for k, vs := range e.Header {
		w.Header()[k] = vs
	}
	writeJSON(w, nil, e.Status, map[string]any{"detail": e.Detail})
}

// writeJSON answers with JSON. An answer to a GET carries a tag, so that a view
// that asks again gets 304 while nothing has changed.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"detail":"Internal Server Error"}`)
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-cache")
	}
	if r != nil && r.Method == http.MethodGet && status == http.StatusOK {
		sum := fnv.New128a()
		sum.Write(body)
		tag := fmt.Sprintf(`W/"%x"`, sum.Sum(nil))
		h.Set("ETag", tag)
		for _, have := range strings.Split(r.Header.Get("If-None-Match"), ",") {
			if have = strings.TrimSpace(have); have == tag || have == "*" {
				h.Del("Content-Type")
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone
}

func (a *API) writeRaw(w http.ResponseWriter, r *Request, status int, v Raw) {
	h := w.Header()
	h.Set("Content-Type", v.ContentType)
	h.Set("Cache-Control", "private, no-cache")
	if v.Stream == nil {
		h.Set("Content-Length", strconv.Itoa(len(v.Body)))
		w.WriteHeader(status)
		_, _ = w.Write(v.Body)
		return
	}
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(status)
	rc := http.NewResponseController(w)
	flush := func() { _ = rc.Flush() } // not every writer can
	if err := v.Stream(r.Context(), w, flush); err != nil && r.Context().Err() == nil {
		a.Log.ErrorContext(r.Context(), "answer broken off", "path", r.URL.Path, "err", err)
	}
}
