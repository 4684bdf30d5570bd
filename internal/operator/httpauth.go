package operator

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	nethttp "net/http"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// httpAuth is how requests are authenticated: a class of the requests package that
// is done here, or one of the author's that runs in Python.
type httpAuth struct {
	class string // "" = basic, if the connection has a login
}

const (
	authBasic  = "requests.auth.HTTPBasicAuth"
	authDigest = "requests.auth.HTTPDigestAuth"
	authProxy  = "requests.auth.HTTPProxyAuth"
)

// readAuth reads auth_type: a class, or its import path.
func readAuth(a *taskrunner.Args) httpAuth {
	switch v := a.Get("auth_type").(type) {
	case nil:
		return httpAuth{}
	case string:
		return httpAuth{v}
	case *serde.Callable:
		if v.File == "" && v.Lambda == "" && v.Path != "" {
			return httpAuth{v.Path}
		}
		a.Reject("auth_type", "expected the import path of a class, got %s", v)
	default:
		a.Reject("auth_type", "expected the import path of a class, got %s", jinja.TypeOf(v).QualName())
	}
	return httpAuth{}
}

// apply authenticates a request before it is sent.
func (h httpAuth) apply(ctx context.Context, t *taskrunner.Task, req *nethttp.Request, body []byte, conn airflow.Connection) error {
	switch h.class {
	case "", authBasic:
		if conn.Login != "" {
			req.SetBasicAuth(conn.Login, conn.Password)
		}
	case authDigest: // answers a challenge, see digest
	case authProxy:
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(conn.Login+":"+conn.Password)))
	default:
		return h.python(ctx, t, req, body, conn)
	}
	return nil
}

// python lets a class of the author's, an AuthBase, change the request.
func (h httpAuth) python(ctx context.Context, t *taskrunner.Task, req *nethttp.Request, body []byte, conn airflow.Connection) error {
	headers := jinja.NewDict()
	for k := range req.Header {
		headers.Set(k, req.Header.Get(k))
	}
	var login jinja.Value = jinja.NewList()
	if conn.Login != "" {
		login = jinja.NewList(conn.Login, conn.Password)
	}
	res, err := runPython(ctx, t, taskrunner.PythonCall{
		Kind: "python", Callable: &serde.Callable{Path: "gust_runner.httpauth.apply"},
		Args: jinja.NewList(h.class, login, req.Method, req.URL.String(), headers, base64.StdEncoding.EncodeToString(body)),
	})
	if err != nil {
		return fmt.Errorf("auth_type %s: %w", h.class, err)
	}
	var out struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	if err := json.Unmarshal(res.Value, &out); err != nil {
		return fmt.Errorf("auth_type %s: %w", h.class, err)
	}
	changed, err := base64.StdEncoding.DecodeString(out.Body)
	if err != nil {
		return fmt.Errorf("auth_type %s: %w", h.class, err)
	}
	next, err := nethttp.NewRequestWithContext(ctx, req.Method, out.URL, bytes.NewReader(changed))
	if err != nil {
		return fmt.Errorf("auth_type %s: %w", h.class, err)
	}
	for k, v := range out.Headers {
		next.Header.Set(k, v)
	}
	*req = *next
	return nil
}

// send sends a request, with a second one where digest authentication asks for it.
func (h httpAuth) send(client *nethttp.Client, req *nethttp.Request, conn airflow.Connection) (*nethttp.Response, error) {
	resp, err := client.Do(req)
	if err != nil || h.class != authDigest || resp.StatusCode != nethttp.StatusUnauthorized || conn.Login == "" {
		return resp, err
	}
	answer, err := digest(resp.Header.Values("WWW-Authenticate"), req.Method, req.URL.RequestURI(), conn.Login, conn.Password, nonce())
	if err != nil || answer == "" {
		return resp, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	for _, c := range resp.Cookies() {
		again.AddCookie(c)
	}
	again.Header.Set("Authorization", answer)
	return client.Do(again)
}

func nonce() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// digest answers a Digest challenge (RFC 7616); "" if there is none.
func digest(challenges []string, method, uri, user, password, cnonce string) (string, error) {
	var c map[string]string
	for _, text := range challenges {
		if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "digest") {
			c = challenge(rest)
			break
		}
	}
	if c == nil {
		return "", nil
	}
	algorithm := strings.ToUpper(c["algorithm"])
	var h func() hash.Hash
	switch strings.TrimSuffix(algorithm, "-SESS") {
	case "", "MD5":
		h = md5.New
	case "SHA":
		h = sha1.New
	case "SHA-256":
		h = sha256.New
	case "SHA-512":
		h = sha512.New
	default:
		return "", fmt.Errorf("the server asks for digest authentication with algorithm %q: MD5, SHA, SHA-256 and SHA-512 are known", c["algorithm"])
	}
	sum := func(parts ...string) string {
		d := h()
		d.Write([]byte(strings.Join(parts, ":")))
		return hex.EncodeToString(d.Sum(nil))
	}
	qop := ""
	if given, ok := c["qop"]; ok {
		var offered []string
		for _, q := range strings.Split(given, ",") {
			offered = append(offered, strings.TrimSpace(q))
		}
		if !slices.Contains(offered, "auth") {
			return "", fmt.Errorf("the server asks for digest authentication with qop %q: only auth is known", given)
		}
		qop = "auth"
	}
	const count = "00000001"
	a1 := sum(user, c["realm"], password)
	if strings.HasSuffix(algorithm, "-SESS") {
		a1 = sum(a1, c["nonce"], cnonce)
	}
	a2 := sum(method, uri)
	response := sum(a1, c["nonce"], a2)
	if qop != "" {
		response = sum(a1, c["nonce"], count, cnonce, qop, a2)
	}
	quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
	out := "Digest username=" + quote(user) + ", realm=" + quote(c["realm"]) + ", nonce=" + quote(c["nonce"]) + ", uri=" + quote(uri) + ", response=" + quote(response)
	if c["opaque"] != "" {
		out += ", opaque=" + quote(c["opaque"])
	}
	if c["algorithm"] != "" {
		out += ", algorithm=" + quote(c["algorithm"])
	}
	if qop != "" {
		out += `, qop="auth", nc=` + count + ", cnonce=" + quote(cnonce)
	}
	return out, nil
}

// challenge reads key=value pairs with quoted texts.
func challenge(s string) map[string]string {
	out := map[string]string{}
	for s = strings.TrimLeft(s, " ,"); s != ""; s = strings.TrimLeft(s, " ,") {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value strings.Builder
		if strings.HasPrefix(rest, `"`) {
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				value.WriteByte(rest[i])
			}
			rest = rest[min(i+1, len(rest)):]
		} else {
			i := strings.IndexAny(rest, ", ")
			if i < 0 {
				i = len(rest)
			}
			value.WriteString(rest[:i])
			rest = rest[i:]
		}
		out[strings.ToLower(strings.TrimSpace(key))] = value.String()
		s = rest
	}
	return out
}

// keepAlive are HttpOperator's tcp_keep_alive settings.
type keepAlive struct {
	off            bool
	idle, interval time.Duration
	count          int
}

func readKeepAlive(a *taskrunner.Args) keepAlive {
	return keepAlive{
		off: !a.Bool("tcp_keep_alive", true), idle: a.Seconds("tcp_keep_alive_idle", 120*time.Second),
		count: a.Int("tcp_keep_alive_count", 20), interval: a.Seconds("tcp_keep_alive_interval", 30*time.Second),
	}
}
