package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

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
	headers                  [][2]string
	data                     jinja.Value // query of GET, body otherwise
	kwargs                   *jinja.Dict // request_kwargs
	options                  *jinja.Dict // extra_options
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
		headers: a.StringMap("headers"), data: a.Get("data"), kwargs: a.Dict("request_kwargs"), options: a.Dict("extra_options"),
	}
	check, filter := a.Callable("response_check"), a.Callable("response_filter")
	for _, name := range []string{"pagination_function", "retry_args", "auth_type"} {
		if a.Has(name) {
			a.Reject(name, "is not supported by Gust's HttpOperator: use PythonOperator, or retries of the task")
		}
	}
	if err := a.Err(); err != nil {
		return nil, err
	}
	t.Log.Info("Calling HTTP method")
	res, err := c.do(ctx, t)
	if err != nil {
		return nil, err
	}
	if a.Bool("log_response", false) {
		t.Log.Info(res.text())
	}
	if check != nil {
		out, err := runPython(ctx, t, taskrunner.PythonCall{Kind: "bool", Callable: check, Inject: true, Response: res.python()})
		if err != nil {
			return nil, err
		}
		if string(out.Value) != "true" {
			return nil, errors.New("Response check returned False.")
		}
	}
	if filter != nil {
		out, err := runPython(ctx, t, taskrunner.PythonCall{Kind: "python", Callable: filter, Inject: true, Response: res.python()})
		if err != nil {
			return nil, err
		}
		return &taskrunner.Result{Value: out.Value}, nil
	}
	return &taskrunner.Result{Value: taskrunner.XComText(res.text())}, nil
}

// pokeHTTP is HttpSensor.
func pokeHTTP(ctx context.Context, t *taskrunner.Task) (poked, error) {
	a := t.Args
	c := httpCall{
		method: strings.ToUpper(a.String("method", "GET")), connID: a.String("http_conn_id", "http_default"), endpoint: a.String("endpoint", ""),
		headers: a.StringMap("headers"), data: a.Get("request_params"), kwargs: a.Dict("request_kwargs"), options: a.Dict("extra_options"),
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
	req, err := c.request(ctx, target, conn, o)
	if err != nil {
		return nil, err
	}
	log := t.Log.Named(httpLogger)
	log.Debug("Sending '" + c.method + "' to url: " + target)
	client := o.client()
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("%s %s: %w", c.method, target, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHTTPResponse+1))
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

type httpOptions struct {
	timeout         time.Duration
	verify, follow  bool
	check           bool
	maxRedirects    int
	extraHeaders    [][2]string
	certFile, proxy string
}

// readHTTPOptions reads extra_options over the connection's extra; other keys
// of the extra are headers.
func readHTTPOptions(c airflow.Connection, options *jinja.Dict) (httpOptions, error) {
	o := httpOptions{verify: true, follow: true, check: true, maxRedirects: 30}
	set := func(k string, v jinja.Value) (known bool, err error) {
		truth := func(dst *bool) error {
			b, ok := v.(bool)
			if !ok {
				return fmt.Errorf("%s: expected True or False", k)
			}
			*dst = b
			return nil
		}
		switch k {
		case "timeout":
			if v == nil {
				return true, nil
			}
			f, ok := serde.Float(v)
			if !ok {
				return true, fmt.Errorf("timeout: expected seconds")
			}
			o.timeout = airflow.SecondsDuration(f)
		case "verify":
			if s, ok := v.(string); ok {
				return true, fmt.Errorf("verify: a bundle of certificates (%q) is not supported: add it to the worker's system store", s)
			}
			return true, truth(&o.verify)
		case "allow_redirects":
			return true, truth(&o.follow)
		case "check_response":
			return true, truth(&o.check)
		case "max_redirects":
			n, ok := v.(int64)
			if !ok {
				return true, fmt.Errorf("max_redirects: expected a number")
			}
			o.maxRedirects = int(n)
		case "proxies", "proxy", "cert":
			return true, fmt.Errorf("%s is not supported: set HTTPS_PROXY on the worker, or use PythonOperator", k)
		case "stream", "trust_env":
		case "headers":
			if d, ok := v.(*jinja.Dict); ok {
				d.Each(func(k, e jinja.Value) bool {
					ks, _ := jinja.Str(k) // JSON keys are texts
					vs, _ := jinja.Str(e)
					o.extraHeaders = append(o.extraHeaders, [2]string{ks, vs})
					return true
				})
			}
		default:
			return false, nil
		}
		return true, nil
	}
	if strings.TrimSpace(c.Extra) != "" {
		v, err := jinja.ParseJSON(c.Extra)
		d, ok := v.(*jinja.Dict)
		if err != nil || !ok {
			return o, fmt.Errorf("extra of connection %q is no JSON object", c.ConnID)
		}
		for _, k := range d.Keys() {
			e, _ := d.Get(k)
			name := k.(string) // keys of JSON objects are texts
			known, err := set(name, e)
			if err != nil {
				return o, fmt.Errorf("extra of connection %q: %w", c.ConnID, err)
			}
			if !known {
				s, err := jinja.Str(e)
				if err != nil {
					return o, err
				}
				o.extraHeaders = append(o.extraHeaders, [2]string{name, s})
			}
		}
	}
	if options != nil {
		for _, k := range options.Keys() {
			e, _ := options.Get(k)
			name, _ := k.(string)
			known, err := set(name, e)
			if err == nil && !known {
				err = fmt.Errorf("unknown option %q", name)
			}
			if err != nil {
				return o, fmt.Errorf("extra_options: %w", err)
			}
		}
	}
	return o, nil
}

func (o httpOptions) client() *nethttp.Client {
	tr := nethttp.DefaultTransport.(*nethttp.Transport).Clone()
	if !o.verify {
		tr.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // the author asked for verify=False
	}
	return &nethttp.Client{Transport: tr, Timeout: o.timeout, CheckRedirect: func(_ *nethttp.Request, via []*nethttp.Request) error {
		if !o.follow {
			return nethttp.ErrUseLastResponse
		}
		if len(via) >= o.maxRedirects {
			return fmt.Errorf("stopped after %d redirects", o.maxRedirects)
		}
		return nil
	}}
}

func (c httpCall) request(ctx context.Context, target string, conn airflow.Connection, o httpOptions) (*nethttp.Request, error) {
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
				return nil, err
			}
			if len(q) > 0 {
				target += sep(target) + q.Encode()
			}
		default:
			return nil, fmt.Errorf("data: expected text or a dict, got %s", jinja.TypeOf(c.data).QualName())
		}
	} else if c.method != "HEAD" {
		if err := bodyOf(c.data); err != nil {
			return nil, err
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
					return nil, fmt.Errorf("request_kwargs json: %w", err)
				}
				body, contentType = b, "application/json"
			case "data":
				if err := bodyOf(v); err != nil {
					return nil, err
				}
			case "params":
				d, ok := v.(*jinja.Dict)
				if !ok {
					return nil, fmt.Errorf("request_kwargs params: expected a dict")
				}
				q, err := formOf(d)
				if err != nil {
					return nil, err
				}
				target += sep(target) + q.Encode()
			case "cookies":
				d, ok := v.(*jinja.Dict)
				if !ok {
					return nil, fmt.Errorf("request_kwargs cookies: expected a dict")
				}
				d.Each(func(k, e jinja.Value) bool {
					ks, _ := jinja.Str(k)
					vs, _ := jinja.Str(e)
					cookies = append(cookies, [2]string{ks, vs})
					return true
				})
			default:
				return nil, fmt.Errorf("request_kwargs %v is not supported: expected json, data, params or cookies", k)
			}
		}
	}
	req, err := nethttp.NewRequestWithContext(ctx, c.method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "gust-http")
	req.Header.Set("Accept", "*/*")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for _, kv := range append(append([][2]string{}, o.extraHeaders...), c.headers...) {
		req.Header.Set(kv[0], kv[1])
	}
	for _, kv := range cookies {
		req.AddCookie(&nethttp.Cookie{Name: kv[0], Value: kv[1]})
	}
	if conn.Login != "" {
		req.SetBasicAuth(conn.Login, conn.Password)
	}
	return req, nil
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
