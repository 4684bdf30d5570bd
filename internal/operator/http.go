package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

const (
	httpLogger      = "airflow.task.hooks.airflow.providers.http.hooks.http.HttpHook"
	maxHTTPResponse = 512 << 20
)

// httpCall is one request as HttpHook makes it.
type httpCall struct {
	method, connID, endpoint string
	headers                  *jinja.Dict
	data                     jinja.Value // query of GET, body otherwise
	kwargs                   *jinja.Dict // request_kwargs
	options                  *jinja.Dict // extra_options
	auth                     httpAuth
	keepAlive                keepAlive
	retry                    *retryPolicy // nil: one attempt
	login                    *[2]string   // of request_kwargs
}

// httpStatusError is an answer of 400 or more.
type httpStatusError struct {
	code   int
	reason string
}

func (e *httpStatusError) Error() string { return fmt.Sprintf("%d:%s", e.code, e.reason) }

func httpOperator(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	a := t.Args
	c := httpCall{
		method: strings.ToUpper(a.String("method", "POST")), connID: a.String("http_conn_id", "http_default"), endpoint: a.String("endpoint", ""),
		headers: a.Dict("headers"), data: a.Get("data"), kwargs: a.Dict("request_kwargs"), options: a.Dict("extra_options"),
		auth: readAuth(a), keepAlive: readKeepAlive(a), retry: readRetry(a, "retry_args"),
	}
	check, filter, paginate := a.Callable("response_check"), a.Callable("response_filter"), a.Callable("pagination_function")
	if err := a.Err(); err != nil {
		return nil, err
	}
	t.Log.Info("Calling HTTP method")
	res, err := c.run(ctx, t)
	if err != nil {
		return nil, err
	}
	// With a pagination function, what follows sees a list of answers.
	call := taskrunner.PythonCall{Inject: true, Response: res.python()}
	text := taskrunner.XComText(res.text())
	shown := res.text()
	if paginate != nil {
		pages := []*httpAnswer{res}
		for {
			next, err := runPython(ctx, t, taskrunner.PythonCall{Kind: "python", Callable: paginate, Response: pages[len(pages)-1].python()})
			if err != nil {
				return nil, err
			}
			params, err := serde.DecodeXCom(next.Value)
			if err != nil {
				return nil, err
			}
			d, ok := params.(*jinja.Dict)
			if !ok && !isFalse(params) {
				return nil, fmt.Errorf("pagination_function %s must return a dict with endpoint, data, headers, extra_options or request_kwargs, or nothing to end; it returned %s", paginate, jinja.TypeOf(params).QualName())
			}
			if !ok || d.Len() == 0 {
				break
			}
			page, err := c.next(d)
			if err != nil {
				return nil, fmt.Errorf("pagination_function %s: %w", paginate, err)
			}
			if res, err = page.run(ctx, t); err != nil {
				return nil, err
			}
			pages = append(pages, res)
		}
		call.Response = nil
		texts := jinja.NewList()
		for _, p := range pages {
			call.Responses = append(call.Responses, p.python())
			texts.Items = append(texts.Items, p.text())
		}
		if text, err = serde.EncodeXCom(texts); err != nil {
			return nil, err
		}
		if shown, err = jinja.Repr(texts); err != nil {
			return nil, err
		}
	}
	if a.Bool("log_response", false) {
		t.Log.Info(shown)
	}
	if check != nil {
		call.Kind, call.Callable = "bool", check
		out, err := runPython(ctx, t, call)
		if err != nil {
			return nil, err
		}
		if string(out.Value) != "true" {
			return nil, errors.New("Response check returned False.")
		}
	}
	if filter != nil {
		call.Kind, call.Callable = "python", filter
		out, err := runPython(ctx, t, call)
		if err != nil {
			return nil, err
		}
		return &taskrunner.Result{Value: out.Value}, nil
	}
	return &taskrunner.Result{Value: text}, nil
}

// isFalse reports whether Python takes a value for false.
func isFalse(v jinja.Value) bool {
	switch x := v.(type) {
	case nil:
		return true
	case bool:
		return !x
	case string:
		return x == ""
	case int64:
		return x == 0
	case *jinja.List:
		return len(x.Items) == 0
	}
	return false
}

// next is the request of the next page: what the pagination function says over
// what the operator was given; dicts are merged, texts replaced.
func (c httpCall) next(params *jinja.Dict) (httpCall, error) {
	for _, k := range params.Keys() {
		v, _ := params.Get(k)
		dict, isDict := v.(*jinja.Dict)
		switch k {
		case "endpoint":
			s, ok := v.(string)
			if !ok && v != nil {
				return c, errors.New("endpoint: expected text")
			}
			if s != "" {
				c.endpoint = s
			}
			continue
		case "data":
			old, both := c.data.(*jinja.Dict)
			switch {
			case v == nil:
			case isDict && (both || c.data == nil):
				c.data = merged(old, dict)
			default:
				c.data = v
			}
			continue
		}
		if !isDict && v != nil {
			return c, fmt.Errorf("%v: expected a dict, got %s", k, jinja.TypeOf(v).QualName())
		}
		switch k {
		case "headers":
			c.headers = merged(c.headers, dict)
		case "extra_options":
			c.options = merged(c.options, dict)
		case "request_kwargs":
			c.kwargs = merged(c.kwargs, dict)
		}
	}
	return c, nil
}

// merged is a with b over it, dicts in both merged in turn.
func merged(a, b *jinja.Dict) *jinja.Dict {
	out := jinja.NewDict()
	if a != nil {
		a.Each(func(k, v jinja.Value) bool { out.Set(k, v); return true })
	}
	if b != nil {
		b.Each(func(k, v jinja.Value) bool {
			have, _ := out.Get(k)
			x, ok := have.(*jinja.Dict)
			y, ok2 := v.(*jinja.Dict)
			if ok && ok2 {
				v = merged(x, y)
			}
			out.Set(k, v)
			return true
		})
	}
	return out
}

// pokeHTTP is HttpSensor.
func pokeHTTP(ctx context.Context, t *taskrunner.Task) (poked, error) {
	a := t.Args
	c := httpCall{
		method: strings.ToUpper(a.String("method", "GET")), connID: a.String("http_conn_id", "http_default"), endpoint: a.String("endpoint", ""),
		headers: a.Dict("headers"), data: a.Get("request_params"), kwargs: a.Dict("request_kwargs"), options: a.Dict("extra_options"),
		keepAlive: readKeepAlive(a),
	}
	allow := a.Strings("response_error_codes_allowlist")
	if !a.Has("response_error_codes_allowlist") {
		if _, given := t.Spec.Kwargs["response_error_codes_allowlist"]; !given || allow == nil {
			allow = []string{"404"}
		}
	}
	check := a.Callable("response_check")
	if err := a.Err(); err != nil {
		return poked{}, err
	}
	t.Log.Info("Poking: " + c.endpoint)
	res, err := c.do(ctx, t)
	if err != nil {
		for _, code := range allow {
			if strings.HasPrefix(err.Error(), code) {
				return poked{}, nil
			}
		}
		return poked{}, err
	}
	if check == nil {
		return poked{done: true}, nil
	}
	out, err := runPython(ctx, t, taskrunner.PythonCall{Kind: "sensor", Callable: check, Inject: true, Response: res.python()})
	if err != nil {
		return poked{}, err
	}
	return pokedBy(out.Value)
}

// httpAnswer is a complete response.
type httpAnswer struct {
	*nethttp.Response
	body []byte
}

func (r *httpAnswer) reason() string {
	return strings.TrimPrefix(r.Status, strconv.Itoa(r.StatusCode)+" ")
}

// text decodes the body: latin-1 for text without a charset, as requests does.
func (r *httpAnswer) text() string {
	ct := strings.ToLower(r.Header.Get("Content-Type"))
	if strings.Contains(ct, "charset=iso-8859-1") || strings.Contains(ct, "charset=latin-1") ||
		strings.HasPrefix(ct, "text/") && !strings.Contains(ct, "charset") && !isUTF8Body(r.body) {
		return decodeLine(r.body, true)
	}
	return strings.ToValidUTF8(string(r.body), "\uFFFD")
}

func isUTF8Body(b []byte) bool { return strings.ToValidUTF8(string(b), "") == string(b) }

func (r *httpAnswer) python() *pyproc.Response {
	h := make(map[string]string, len(r.Header))
	for k, v := range r.Header {
		h[k] = strings.Join(v, ", ")
	}
	return &pyproc.Response{StatusCode: r.StatusCode, Reason: r.reason(), URL: r.Request.URL.String(), Headers: h, Content: r.body}
}

// run sends the request, again and again if retry_args say so.
func (c httpCall) run(ctx context.Context, t *taskrunner.Task) (*httpAnswer, error) {
	if c.retry == nil {
		return c.do(ctx, t)
	}
	return c.retry.do(ctx, func() (*httpAnswer, error) { return c.do(ctx, t) })
}

// do sends the request. An answer of 400 or more is a httpStatusError, unless
// extra_options has check_response False.
func (c httpCall) do(ctx context.Context, t *taskrunner.Task) (*httpAnswer, error) {
	conn, err := t.Connection(ctx, c.connID)
	if errors.Is(err, airflow.ErrNotFound) || err != nil && strings.Contains(c.endpoint, "://") {
		conn, err = airflow.Connection{}, nil
	}
	if err != nil {
		return nil, err
	}
	target, err := joinURL(conn, c.endpoint)
	if err != nil {
		return nil, err
	}
	o, err := readHTTPOptions(conn, c.options)
	if err != nil {
		return nil, err
	}
	req, body, err := c.request(ctx, target, o)
	if err != nil {
		return nil, err
	}
	if c.login != nil { // request_kwargs auth goes over the connection
		conn.Login, conn.Password = c.login[0], c.login[1]
	}
	if err := c.auth.apply(ctx, t, req, body, conn); err != nil {
		return nil, err
	}
	log := t.Log.Named(httpLogger)
	log.Debug("Sending '" + c.method + "' to url: " + target)
	client, err := o.client(c.keepAlive)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	resp, err := c.auth.send(client, req, conn)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("%s %s: %w", c.method, target, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxHTTPResponse+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", c.method, target, err)
	}
	if len(body) > maxHTTPResponse {
		return nil, fmt.Errorf("%s %s: the answer exceeds %d bytes: fetch it in a BashOperator to a file", c.method, target, maxHTTPResponse)
	}
	res := &httpAnswer{resp, body}
	if o.check && resp.StatusCode >= 400 {
		log.Error("HTTP error: " + res.reason())
		log.Error(res.text())
		return nil, &httpStatusError{resp.StatusCode, res.reason()}
	}
	return res, nil
}

// joinURL is HttpHook's base URL and endpoint.
func joinURL(c airflow.Connection, endpoint string) (string, error) {
	base := ""
	switch {
	case strings.Contains(c.Host, "://"):
		base = c.Host
	case c.Host != "":
		schema := c.Schema
		if schema == "" {
			schema = "http"
		}
		base = schema + "://" + c.Host
	case strings.Contains(endpoint, "://"):
		return endpoint, nil
	default:
		return "", fmt.Errorf("the HTTP connection has no host: set host, or give a whole URL as endpoint")
	}
	if c.Port != 0 {
		base += ":" + strconv.Itoa(c.Port)
	}
	if endpoint != "" && !strings.HasSuffix(base, "/") && !strings.HasPrefix(endpoint, "/") {
		return base + "/" + endpoint, nil
	}
	return base + endpoint, nil
}

func (c *httpCall) request(ctx context.Context, target string, o httpOptions) (*nethttp.Request, []byte, error) {
	var body []byte
	contentType := ""
	bodyOf := func(v jinja.Value) error {
		switch x := v.(type) {
		case nil:
		case string:
			body = []byte(x)
		case *serde.Callable:
			if x.JSON == "" {
				return fmt.Errorf("data: a function is not supported: give text or a dict")
			}
			body = []byte(x.JSON)
		case *jinja.Dict:
			form, err := formOf(x)
			if err != nil {
				return err
			}
			body, contentType = []byte(form.Encode()), "application/x-www-form-urlencoded"
		default:
			return fmt.Errorf("data: expected text or a dict, got %s", jinja.TypeOf(v).QualName())
		}
		return nil
	}
	if c.method == "GET" {
		switch x := c.data.(type) {
		case nil:
		case string:
			target += sep(target) + x
		case *jinja.Dict:
			q, err := formOf(x)
			if err != nil {
				return nil, nil, err
			}
			if len(q) > 0 {
				target += sep(target) + q.Encode()
			}
		default:
			return nil, nil, fmt.Errorf("data: expected text or a dict, got %s", jinja.TypeOf(c.data).QualName())
		}
	} else if c.method != "HEAD" {
		if err := bodyOf(c.data); err != nil {
			return nil, nil, err
		}
	}
	var cookies [][2]string
	if c.kwargs != nil {
		for _, k := range c.kwargs.Keys() {
			v, _ := c.kwargs.Get(k)
			switch k {
			case "json":
				b, err := json.Marshal(serde.Plain(v))
				if err != nil {
					return nil, nil, fmt.Errorf("request_kwargs json: %w", err)
				}
				body, contentType = b, "application/json"
			case "data":
				if err := bodyOf(v); err != nil {
					return nil, nil, err
				}
			case "params":
				d, ok := v.(*jinja.Dict)
				if !ok {
					return nil, nil, fmt.Errorf("request_kwargs params: expected a dict")
				}
				q, err := formOf(d)
				if err != nil {
					return nil, nil, err
				}
				target += sep(target) + q.Encode()
			case "cookies":
				d, ok := v.(*jinja.Dict)
				if !ok {
					return nil, nil, fmt.Errorf("request_kwargs cookies: expected a dict")
				}
				d.Each(func(k, e jinja.Value) bool {
					ks, _ := jinja.Str(k)
					vs, _ := jinja.Str(e)
					cookies = append(cookies, [2]string{ks, vs})
					return true
				})
			case "auth":
				items, ok := v.(*jinja.Tuple)
				if l, isList := v.(*jinja.List); isList {
					items, ok = jinja.NewTuple(l.Items...), true
				}
				if !ok || len(items.Items) != 2 {
					return nil, nil, fmt.Errorf("request_kwargs auth: expected login and password in a list, or set auth_type")
				}
				user, err := jinja.Str(items.Items[0])
				if err != nil {
					return nil, nil, err
				}
				password, err := jinja.Str(items.Items[1])
				if err != nil {
					return nil, nil, err
				}
				c.login = &[2]string{user, password}
			default:
				return nil, nil, fmt.Errorf("request_kwargs %v is not supported: expected json, data, params, cookies or auth; upload files in PythonOperator", k)
			}
		}
	}
	req, err := nethttp.NewRequestWithContext(ctx, c.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("User-Agent", "gust-http")
	req.Header.Set("Accept", "*/*")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for _, kv := range o.extraHeaders {
		req.Header.Set(kv[0], kv[1])
	}
	if c.headers != nil {
		for _, k := range c.headers.Keys() {
			v, _ := c.headers.Get(k)
			ks, err := jinja.Str(k)
			if err != nil {
				return nil, nil, err
			}
			if v == nil { // requests: do not send it
				req.Header.Del(ks)
				continue
			}
			vs, err := jinja.Str(v)
			if err != nil {
				return nil, nil, err
			}
			req.Header.Set(ks, vs)
		}
	}
	for _, kv := range cookies {
		req.AddCookie(&nethttp.Cookie{Name: kv[0], Value: kv[1]})
	}
	return req, body, nil
}

func sep(u string) string {
	if strings.Contains(u, "?") {
		return "&"
	}
	return "?"
}

func formOf(d *jinja.Dict) (url.Values, error) {
	out := url.Values{}
	for _, k := range d.Keys() {
		v, _ := d.Get(k)
		ks, err := jinja.Str(k)
		if err != nil {
			return nil, err
		}
		items := []jinja.Value{v}
		switch l := v.(type) {
		case nil:
			continue // requests leaves None out
		case *jinja.List:
			items = l.Items
		case *jinja.Tuple:
			items = l.Items
		}
		for _, it := range items {
			s, err := jinja.Str(it)
			if err != nil {
				return nil, err
			}
			out.Add(ks, s)
		}
	}
	return out, nil
}
