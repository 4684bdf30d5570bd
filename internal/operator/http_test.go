package operator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/workertest"
)

const httpOp = http + "operators.http.HttpOperator"

// httpCase runs an HttpOperator and expects a text in its result, error or log.
type httpCase struct {
	kwargs  string
	outcome worker.Outcome
	want    string
}

func runHTTP(t *testing.T, b *workertest.Backend, cases []httpCase) {
	t.Helper()
	for i, c := range cases {
		r, log := exec1(t, workertest.Run{Backend: b, Seq: uint32(i + 1)}, httpOp, c.kwargs)
		if all := workertest.XCom(r, "return_value") + r.Error + log; r.Outcome != c.outcome || !strings.Contains(all, c.want) {
			t.Errorf("%s\n%v %s, want %v %q\n%s", c.kwargs, r.Outcome, workertest.XCom(r, "return_value"), c.outcome, c.want, log)
		}
	}
}

func connectionOf(t *testing.T, address, extra string) airflow.Connection {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return airflow.Connection{ConnType: "http", Schema: u.Scheme, Host: u.Hostname(), Port: port, Login: "me", Password: "pw", Extra: extra}
}

func TestHTTPPages(t *testing.T) {
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		page := 1
		if p := r.URL.Query().Get("page"); p != "" {
			page, _ = strconv.Atoi(p)
		}
		cookie := ""
		if c, err := r.Cookie("n"); err == nil {
			cookie = c.Value
		}
		fmt.Fprintf(w, `{"page":%d,"q":%q,"h":%q,"c":%q}`, page, r.URL.RawQuery, r.Header.Get("X-A")+r.Header.Get("X-Page"), cookie)
	}))
	defer srv.Close()
	b := workertest.NewBackend()
	b.Connections["c"] = connectionOf(t, srv.URL, "")
	const base = `"http_conn_id":"c","method":"GET","endpoint":"p","data":{"k":"v"},"headers":{"X-A":"a"}`
	fn := func(arg, name string) string {
		return `,"` + arg + `":{"__type":"callable","__var":"callables.` + name + `"}`
	}
	runHTTP(t, b, []httpCase{
		{`{` + base + fn("pagination_function", "next_page") + `}`, worker.OutcomeSuccess,
			`["{\"page\":1,\"q\":\"k=v\",\"h\":\"a\",\"c\":\"\"}","{\"page\":2,\"q\":\"k=v\u0026page=2\",\"h\":\"a1\",\"c\":\"1\"}","{\"page\":3,\"q\":\"k=v\u0026page=3\",\"h\":\"a2\",\"c\":\"2\"}"]`},
		{`{` + base + fn("pagination_function", "next_page") + fn("response_filter", "pages") + fn("response_check", "three") + `}`, worker.OutcomeSuccess, `[[1,2,3],"2026-03-01"]`},
		{`{` + base + fn("pagination_function", "endless") + `}`, worker.OutcomeFailed, "must return a dict"},
		{`{` + base + fn("pagination_function", "boom") + `}`, worker.OutcomeFailed, "boom"},
	})
}

func TestHTTPRetry(t *testing.T) {
	var calls atomic.Int32
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if n := calls.Add(1); r.URL.Path == "/flaky" && n%3 != 0 || r.URL.Path == "/down" {
			w.WriteHeader(503)
			return
		}
		fmt.Fprint(w, "up")
	}))
	defer srv.Close()
	b := workertest.NewBackend()
	b.Connections["c"] = connectionOf(t, srv.URL, "")
	args := func(endpoint string, parts ...string) string {
		return `{"http_conn_id":"c","endpoint":"` + endpoint + `","retry_args":{` + strings.Join(parts, ",") + `}}`
	}
	stop := func(n int) string {
		return `"stop":` + tenacity("stop_after_attempt", fmt.Sprintf(`"max_attempt_number":%d`, n))
	}
	wait := `"wait":` + tenacity("wait_exponential", `"multiplier":0.01,"max":0.02`)
	for _, c := range []struct {
		httpCase
		calls int32
	}{
		{httpCase{args("flaky", stop(5), wait), worker.OutcomeSuccess, "up"}, 3},
		{httpCase{args("down", stop(4), wait), worker.OutcomeFailed, "RetryError: attempt 4: 503:Service Unavailable"}, 4},
		{httpCase{args("down", stop(2), wait, `"reraise":true`), worker.OutcomeFailed, "503:Service Unavailable"}, 2},
		{httpCase{args("down", stop(4), `"retry":`+tenacity("retry_if_exception_type", `"exception_types":"requests.exceptions.ConnectionError"`)), worker.OutcomeFailed, "503:Service Unavailable"}, 1},
		{httpCase{args("down", stop(3), `"retry":`+tenacity("retry_if_exception_type", `"exception_types":["requests.exceptions.Timeout","airflow.exceptions.AirflowException"]`)), worker.OutcomeFailed, "RetryError"}, 3},
		{httpCase{args("down", `"stop":`+tenacity("stop_whenever", "")), worker.OutcomeFailed, "tenacity.stop_whenever is not supported"}, 0},
		{httpCase{args("down", `"before":1`), worker.OutcomeFailed, "retry_args[before]"}, 0},
	} {
		calls.Store(0)
		runHTTP(t, b, []httpCase{c.httpCase})
		if n := calls.Load(); n != c.calls {
			t.Errorf("%s: %d calls, want %d", c.kwargs, n, c.calls)
		}
	}
}

// tenacity is the serialized form of an object of that package.
func tenacity(class, kwargs string) string {
	return `{"__type":"object","__var":{"class":"tenacity.` + class + `","kwargs":{` + kwargs + `}}}`
}

// keyPair writes a certificate and its key.
func keyPair(path string) (key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &private.PublicKey, private)
	if err != nil {
		return "", err
	}
	der2, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	return path + ".key", errors.Join(
		os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der2}), 0o600))
}

func TestRetryStrategies(t *testing.T) {
	obj := func(class string, kw map[string]jinja.Value, args ...jinja.Value) jinja.Value {
		d := jinja.NewDict()
		for k, v := range kw {
			d.Set(k, v)
		}
		return &serde.Object{Class: "tenacity." + class, Args: jinja.NewList(args...), Kwargs: d}
	}
	for _, c := range []struct {
		v    jinja.Value
		want []time.Duration // of attempts 1, 2, 3
	}{
		{obj("wait_fixed", nil, int64(2)), []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second}},
		{obj("wait_incrementing", map[string]jinja.Value{"start": int64(1), "increment": 2.5, "max": int64(5)}), []time.Duration{time.Second, 3500 * time.Millisecond, 5 * time.Second}},
		{obj("wait_exponential", map[string]jinja.Value{"multiplier": int64(1), "min": int64(2), "max": int64(3)}), []time.Duration{2 * time.Second, 2 * time.Second, 3 * time.Second}},
		{obj("wait_chain", nil, obj("wait_none", nil), obj("wait_fixed", nil, int64(1))), []time.Duration{0, time.Second, time.Second}},
		{obj("wait_combine", nil, obj("wait_fixed", nil, int64(1)), obj("wait_fixed", nil, int64(2))), []time.Duration{3 * time.Second, 3 * time.Second, 3 * time.Second}},
	} {
		w, err := readWait(c.v)
		if err != nil {
			t.Errorf("%v: %v", c.v, err)
			continue
		}
		for i, want := range c.want {
			if got := w(i + 1); got != want {
				t.Errorf("%s: attempt %d waits %v, want %v", c.v.(*serde.Object).Class, i+1, got, want)
			}
		}
	}
	s, err := readStop(obj("stop_any", nil, obj("stop_after_attempt", nil, int64(9)), obj("stop_before_delay", nil, int64(10))))
	if err != nil || s(8, 4*time.Second, 5*time.Second) || !s(8, 4*time.Second, 6*time.Second) || !s(9, 0, 0) {
		t.Errorf("stop_any: %v", err)
	}
	timeout := fmt.Errorf("get: %w", os.ErrDeadlineExceeded)
	if !raises(timeout, "Timeout") || raises(timeout, "ConnectionError") || !raises(errors.New("refused"), "ConnectionError") || raises(&httpStatusError{500, "x"}, "RequestException") {
		t.Error("classes of errors")
	}
}

func TestHTTPAuth(t *testing.T) {
	srv := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path != "/digest" {
			user, pass, _ := r.BasicAuth()
			fmt.Fprintf(w, "%s %s/%s %s", r.Header.Get("X-Sign"), user, pass, r.URL.RawQuery)
			return
		}
		body := make([]byte, 10)
		n, _ := r.Body.Read(body)
		got := challenge(strings.TrimPrefix(r.Header.Get("Authorization"), "Digest "))
		if got["response"] == "" {
			w.Header().Set("WWW-Authenticate", `Digest realm="a \"b\"", qop="auth,auth-int", algorithm=SHA-256, nonce="n1", opaque="o"`)
			w.WriteHeader(401)
			return
		}
		want, err := digest([]string{`Digest realm="a \"b\"", qop="auth", algorithm=SHA-256, nonce="n1", opaque="o"`}, r.Method, r.URL.RequestURI(), "me", "pw", got["cnonce"])
		if err != nil || want != r.Header.Get("Authorization") {
			w.WriteHeader(403)
			return
		}
		fmt.Fprintf(w, "let in with %q", body[:n])
	}))
	defer srv.Close()
	b := workertest.NewBackend()
	b.Connections["c"] = connectionOf(t, srv.URL, "")
	const base = `"http_conn_id":"c","data":"text","endpoint":`
	runHTTP(t, b, []httpCase{
		{`{` + base + `"digest?q=1","auth_type":"requests.auth.HTTPDigestAuth"}`, worker.OutcomeSuccess, `let in with \"text\"`},
		{`{` + base + `"digest","auth_type":{"__type":"callable","__var":"requests.auth.HTTPBasicAuth"}}`, worker.OutcomeFailed, "401:Unauthorized"},
		{`{` + base + `"x?a=1","auth_type":"callables.Signed"}`, worker.OutcomeSuccess, `me:POST:/x?a=1:4 / a=1\u0026signed=1`},
		{`{` + base + `"x","auth_type":"callables.Refuses"}`, worker.OutcomeFailed, "callables.Refuses"},
		{`{` + base + `"x","auth_type":7}`, worker.OutcomeFailed, "auth_type"},
		{`{` + base + `"x","request_kwargs":{"auth":["other","secret"]}}`, worker.OutcomeSuccess, "other/secret"},
		{`{` + base + `"x","request_kwargs":{"files":{}}}`, worker.OutcomeFailed, "request_kwargs files is not supported"},
	})
}

// TestDigestExamples starts with the example of RFC 2617, section 3.5; the others
// are the same with further algorithms, worked out with Python's hashlib.
func TestDigestExamples(t *testing.T) {
	for algorithm, want := range map[string]string{
		"MD5":          "6629fae49393a05397450978507c4ef1",
		"MD5-sess":     "8e3825c57e897f5a0dec6c2d4e5059d0",
		"SHA-256":      "5abdd07184ba512a22c53f41470e5eea7dcaa3a93a59b630c13dfe0a5dc6e38b",
		"SHA-512-sess": "60a598ef817087de0af8faf3f56ba69747dcb2448e47fbbfd3cbc8e924a484b1d56333b79c527bbbea0ed6e5718178d2ef087028862d8499fa6f1d1236cfe641",
	} {
		got, err := digest([]string{"Basic realm=x", `Digest realm="testrealm@host.com", qop="auth, auth-int", algorithm=` + algorithm +
			`, nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"`},
			"GET", "/dir/index.html", "Mufasa", "Circle Of Life", "0a4f113b")
		if err != nil || challenge(strings.TrimPrefix(got, "Digest "))["response"] != want {
			t.Errorf("%s: %v\n%s", algorithm, err, got)
		}
	}
	for _, bad := range []string{`Digest realm="r", nonce="n", algorithm=TIGER`, `Digest realm="r", nonce="n", qop="auth-int"`} {
		if _, err := digest([]string{bad}, "GET", "/", "u", "p", "c"); err == nil {
			t.Errorf("%s is answered", bad)
		}
	}
}

func TestHTTPProxiesAndCertificates(t *testing.T) {
	srv := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		fmt.Fprintf(w, "%d certificates", len(r.TLS.PeerCertificates))
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	proxy := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		fmt.Fprintf(w, "by proxy to %s with %q", r.URL, r.Header.Get("Proxy-Authorization"))
	}))
	defer proxy.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	pair := filepath.Join(dir, "pair")
	key, err := keyPair(pair)
	if err != nil {
		t.Fatal(err)
	}
	b := workertest.NewBackend()
	b.Connections["tls"] = connectionOf(t, srv.URL, "")
	b.Connections["ca"] = connectionOf(t, srv.URL, fmt.Sprintf(`{"verify":%q,"cert":[%q,%q]}`, ca, pair, key))
	b.Connections["plain"] = airflow.Connection{ConnType: "http", Host: "nowhere.invalid", Login: "me", Password: "pw", Extra: fmt.Sprintf(`{"proxies":{"http":%q}}`, proxy.URL)}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	runHTTP(t, b, []httpCase{
		{`{"http_conn_id":"tls","endpoint":"x"}`, worker.OutcomeFailed, "certificate"},
		{`{"http_conn_id":"tls","endpoint":"x","extra_options":{"verify":false}}`, worker.OutcomeSuccess, "0 certificates"},
		{fmt.Sprintf(`{"http_conn_id":"tls","endpoint":"x","extra_options":{"verify":%q}}`, dir), worker.OutcomeSuccess, "0 certificates"},
		{`{"http_conn_id":"ca","endpoint":"x","tcp_keep_alive":false}`, worker.OutcomeSuccess, "1 certificates"},
		{`{"http_conn_id":"tls","endpoint":"x","extra_options":{"verify":"/nowhere.pem"}}`, worker.OutcomeFailed, "verify"},
		{`{"http_conn_id":"plain","endpoint":"x","tcp_keep_alive_idle":5,"tcp_keep_alive_count":2,"tcp_keep_alive_interval":1}`, worker.OutcomeSuccess, "by proxy to http://nowhere.invalid/x"},
		{`{"http_conn_id":"plain","endpoint":"x","auth_type":"requests.auth.HTTPProxyAuth"}`, worker.OutcomeSuccess, `with \"Basic bWU6cHc=\"`},
		{fmt.Sprintf(`{"http_conn_id":"plain","endpoint":"x","extra_options":{"proxies":{"http://nowhere.invalid":"http://%s"}}}`, closed.Addr()), worker.OutcomeFailed, "refused"},
		{`{"http_conn_id":"plain","endpoint":"x","extra_options":{"proxies":7}}`, worker.OutcomeFailed, "proxies"},
	})
}
