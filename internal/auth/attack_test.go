package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store"
)

// form signs in as a browser does and returns the answer.
func (f *fixture) form(values url.Values, h header) *httptest.ResponseRecorder {
	f.t.Helper()
	all := header{"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
	for k, v := range h {
		all[k] = v
	}
	return f.do("POST", "/auth/login", values.Encode(), all)
}

func goodForm(name string) url.Values {
	return url.Values{"username": {name}, "password": {goodPassword}}
}

// sessionCookie returns the session of an answer.
func sessionCookie(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	for _, c := range w.Result().Cookies() {
		if c.Name == CookieName {
			return c
		}
	}
	t.Fatalf("no session in %d %s", w.Code, w.Body)
	return nil
}

func TestLoginLimits(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	f.user("mo", User)
	attempt := func(name, password, from string) int {
		t.Helper()
		return f.do("POST", "/auth/token", creds(name, password), header{"from": from + ":4711"}).Code
	}
	f.now = f.now.Truncate(signInWindow) // the whole window is ahead
	for i := range signInsPerAccount {
		if got := attempt("jo", "wrong", "192.0.2.1"); got != 401 {
			t.Fatalf("attempt %d: %d", i, got)
		}
	}
	w := f.do("POST", "/auth/token", creds("jo", goodPassword), header{"from": "192.0.2.1:1"})
	f.want(w, 429, "Too many failed attempts")
	if w.Header().Get("Retry-After") != "901" {
		t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
	}
	f.want(f.form(goodForm("jo"), header{"from": "192.0.2.1:1"}), 429, "Too many failed attempts")
	if got := attempt("jo", goodPassword, "192.0.2.2"); got != 201 {
		t.Errorf("the owner, from elsewhere: %d; must not be locked out", got)
	}
	if got := attempt("mo", goodPassword, "192.0.2.1"); got != 201 {
		t.Errorf("another account from the same source: %d", got)
	}
	f.now = f.now.Add(signInWindow)
	if got := attempt("jo", goodPassword, "192.0.2.1"); got != 201 {
		t.Errorf("after the window: %d", got)
	}

	// A source that tries many accounts.
	for i := range signInsPerSource {
		if got := attempt(fmt.Sprintf("user%d", i), "wrong", "192.0.2.3"); got != 401 {
			t.Fatalf("attempt %d: %d", i, got)
		}
	}
	if got := attempt("jo", goodPassword, "192.0.2.3"); got != 429 {
		t.Errorf("a source that has tried %d accounts: %d", signInsPerSource, got)
	}
	// One subscriber has a whole /64 of IPv6.
	for i := range signInsPerAccount {
		attempt("jo", "wrong", fmt.Sprintf("[2001:db8::%x]", i+1))
	}
	if got := attempt("jo", goodPassword, "[2001:db8::ffff]"); got != 429 {
		t.Errorf("the next address of a /64: %d", got)
	}
	if got := attempt("jo", goodPassword, "[2001:db8:0:1::1]"); got != 201 {
		t.Errorf("another /64: %d", got)
	}
	// Success takes the failures back: people who mistype now and then stay in.
	for range 3 * signInsPerAccount {
		attempt("mo", "wrong", "192.0.2.9")
		if got := attempt("mo", goodPassword, "192.0.2.9"); got != 201 {
			t.Fatalf("after one mistake: %d", got)
		}
	}
}

// TestLoginLimitHoldsTogether: attempts at the same moment, in several processes,
// do not pass the limit together.
func TestLoginLimitHoldsTogether(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	var checked, limited atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			s, err := New(Options{Store: f.store, Now: f.s.o.Now}) // a process of its own
			if err != nil {
				t.Error(err)
				return
			}
			_, err = s.SignIn(t.Context(), "jo", "wrong", "192.0.2.1")
			var limit *LimitError
			switch {
			case errors.Is(err, ErrCredentials):
				checked.Add(1)
			case errors.As(err, &limit):
				limited.Add(1)
			default:
				t.Errorf("SignIn: %v", err)
			}
		})
	}
	wg.Wait()
	if checked.Load() != signInsPerAccount || limited.Load() != 40-signInsPerAccount {
		t.Errorf("%d passwords were looked at and %d refused, want %d and %d", checked.Load(), limited.Load(), signInsPerAccount, 40-signInsPerAccount)
	}
}

// TestNoEnumeration: what is told about users that exist is told about those that
// do not, and the same work is done.
func TestNoEnumeration(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	f.user("off", User)
	if err := f.s.SetDisabled(t.Context(), "off", true); err != nil {
		t.Fatal(err)
	}
	if err := f.store.CreateUser(t.Context(), store.User{Username: "external", Role: "User", Provider: "https://idp", Generation: "g"}); err != nil {
		t.Fatal(err)
	}
	var first *httptest.ResponseRecorder
	for _, name := range []string{"jo", "off", "external", "nobody", strings.Repeat("x", 5000), "jo\x00"} {
		password := "wrong"
		if name == "off" {
			password = goodPassword
		}
		w := f.do("POST", "/auth/token", creds(name, password), nil)
		if first == nil {
			first = w
		}
		if w.Code != 401 || w.Body.String() != first.Body.String() || fmt.Sprint(w.Header()) != fmt.Sprint(first.Header()) {
			t.Errorf("%.20q: %d %s %v differs from the answer for a user that exists", name, w.Code, w.Body, w.Header())
		}
	}
	// The work: a hash with the same costs is computed whether or not there is one.
	var hashed []string
	for _, phc := range []string{"", mustHash(t, f.s)} {
		f.s.hashing <- struct{}{} // three of four places are left
		ctx, cancel := context.WithCancel(t.Context())
		for range maxHashes - 1 {
			f.s.hashing <- struct{}{}
		}
		cancel()
		_, _, err := f.s.passwordMatches(ctx, phc, "x")
		hashed = append(hashed, fmt.Sprint(err))
		for range maxHashes {
			<-f.s.hashing
		}
	}
	if hashed[0] != context.Canceled.Error() || hashed[1] != hashed[0] {
		t.Errorf("a password is hashed for one of them only: %q", hashed)
	}
	// Nobody's typed password ends up in the audit log as a user's name.
	events, _, err := f.store.ListAudit(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, e := range events {
		if e.Event == "sign_in_failed" {
			failed++
			if e.Owner == "nobody" {
				t.Error("a name that is no user's is in the audit log")
			}
		}
	}
	if failed != 6 {
		t.Errorf("%d failed sign-ins are in the audit log, want 6", failed)
	}
}

func mustHash(t *testing.T, s *Service) string {
	t.Helper()
	h, err := s.hashPassword(t.Context(), "some password")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSession(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	f.want(f.do("GET", "/auth/login", nil, nil), 200, `action="/auth/login"`)
	w := f.form(goodForm("jo"), nil)
	if w.Code != 303 || w.Header().Get("Location") != "/" {
		t.Fatalf("sign in: %d to %q", w.Code, w.Header().Get("Location"))
	}
	c := sessionCookie(t, w)
	if !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 86400 || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	session := header{"Cookie": CookieName + "=" + c.Value}
	f.want(f.echo(session), 200, `"name":"jo"`)
	if w := f.do("GET", "/auth/login?next=/dags/x", nil, session); w.Code != 303 || w.Header().Get("Location") != "/dags/x" {
		t.Errorf("who is signed in needs no page: %d", w.Code)
	}
	// Another site's link does not sign out, its button page does not either; ours does.
	f.want(f.do("GET", "/auth/logout", nil, header{"Cookie": session["Cookie"], "Sec-Fetch-Site": "cross-site"}), 200, `action="/auth/logout"`)
	f.want(f.do("POST", "/auth/logout", nil, header{"Cookie": session["Cookie"], "Sec-Fetch-Site": "cross-site"}), 403, "CSRF")
	f.want(f.echo(session), 200, `"name":"jo"`)
	w = f.do("GET", "/auth/logout", nil, header{"Cookie": session["Cookie"], "Sec-Fetch-Site": "same-origin"})
	if c := sessionCookie(t, w); w.Code != 303 || w.Header().Get("Location") != "/auth/login" || c.MaxAge != -1 || c.Value != "" {
		t.Errorf("sign out: %d %+v", w.Code, c)
	}
	f.want(f.echo(session), 401, "Not authenticated") // the copy that somebody kept is worth nothing

	w = f.form(url.Values{"username": {`"><script>alert(1)</script>`}, "password": {"x"}, "next": {`/"><script>`}}, nil)
	if body := w.Body.String(); w.Code != 401 || strings.Contains(body, "<script") || !strings.Contains(body, "is wrong") {
		t.Errorf("what was typed is in the page unescaped: %s", body)
	}
}

func TestCookieWithTLS(t *testing.T) {
	for name, set := range map[string]func(*Options){
		"base URL": func(o *Options) { o.BaseURL = "https://gust.example.com/flow/" },
		"function": func(o *Options) { o.HTTPS = true },
	} {
		f := newFixture(t, set)
		f.user("jo", User)
		w := f.form(goodForm("jo"), nil)
		c := sessionCookie(t, w)
		if !c.Secure || w.Header().Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: cookie %+v, headers %v", name, c, w.Header())
		}
		if name == "base URL" && (c.Path != "/flow/" || w.Header().Get("Location") != "/flow/") {
			t.Errorf("below a path: cookie %+v, to %q", c, w.Header().Get("Location"))
		}
	}
}

func TestCSRF(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.BaseURL = "https://gust.example.com" })
	f.user("jo", User)
	cookie := CookieName + "=" + f.token("jo")
	for _, c := range []struct {
		name   string
		method string
		h      header
		want   int
	}{
		{"our page", "POST", header{"Sec-Fetch-Site": "same-origin"}, 200},
		{"our page, older browser", "POST", header{"Origin": "http://example.com"}, 200},
		{"our page behind a proxy", "POST", header{"Origin": "https://gust.example.com", "Sec-Fetch-Site": "same-origin"}, 200},
		{"another site", "POST", header{"Sec-Fetch-Site": "cross-site"}, 403},
		{"another host of the domain", "POST", header{"Sec-Fetch-Site": "same-site"}, 403},
		{"another site, older browser", "POST", header{"Origin": "https://evil.example"}, 403},
		{"a page in a sandbox", "POST", header{"Origin": "null"}, 403},
		{"contradiction", "POST", header{"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403},
		{"base URL without TLS", "POST", header{"Origin": "http://gust.example.com"}, 403},
		{"no browser", "POST", header{}, 403},
		{"typed into the address bar", "POST", header{"Sec-Fetch-Site": "none"}, 403},
		{"a form", "POST", header{"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}, 403},
		{"a form that looks like JSON", "POST", header{"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"}, 403},
		{"PUT", "PUT", header{"Sec-Fetch-Site": "cross-site"}, 403},
		{"PATCH", "PATCH", header{"Sec-Fetch-Site": "cross-site"}, 403},
		{"DELETE", "DELETE", header{"Sec-Fetch-Site": "cross-site"}, 403},
		{"a method nobody knows", "FROB", header{"Sec-Fetch-Site": "cross-site"}, 403},
		{"a link", "GET", header{"Sec-Fetch-Site": "cross-site"}, 200},
	} {
		c.h["Cookie"] = cookie
		if w := f.do(c.method, "/api/v2/echo", nil, c.h); w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	// A token in a header is no browser's doing: no check.
	f.want(f.do("POST", "/api/v2/echo", nil, header{"Authorization": "Bearer " + strings.TrimPrefix(cookie, CookieName+"="), "Sec-Fetch-Site": "cross-site"}), 200, "jo")
	// Signing somebody in from another site, as somebody else.
	f.want(f.form(goodForm("jo"), header{"Sec-Fetch-Site": "cross-site"}), 403, "CSRF")
}

func TestNextStaysHere(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	for next, want := range map[string]string{
		"":                            "/",
		"/dags/a?x=1#y":               "/dags/a?x=1#y",
		"http://example.com/dags":     "/dags",
		"https://evil.example/":       "/",
		"//evil.example":              "/",
		"///evil.example":             "/",
		"/\\evil.example":             "/",
		"\\\\evil.example":            "/",
		"/%2Fevil.example":            "/",
		"/\t/evil.example":            "/",
		"javascript:alert(1)":         "/",
		"data:text/html,x":            "/",
		"http:evil.example":           "/",
		"http:///evil.example":        "/",
		"http://example.com@evil.com": "/",
		"http://user@example.com/":    "/",
		"ftp://example.com/x":         "/",
		"evil.example":                "/",
		"/auth/logout":                "/",
		"/x\r\nSet-Cookie: a=b":       "/",
		"?next=/x":                    "/",
		strings.Repeat("/a", 3000):    "/",
	} {
		v := goodForm("jo")
		v.Set("next", next)
		w := f.form(v, nil)
		if got := w.Header().Get("Location"); w.Code != 303 || got != want {
			t.Errorf("next %.40q leads to %q, want %q", next, got, want)
		}
	}
	g := newFixture(t, func(o *Options) { o.BaseURL = "http://example.com/flow" })
	g.user("jo", User)
	for next, want := range map[string]string{"/flow/dags": "/flow/dags", "/other": "/flow/", "/flowers": "/flow/", "": "/flow/", "/flow/auth/logout": "/flow/"} {
		v := goodForm("jo")
		v.Set("next", next)
		if got := g.form(v, nil).Header().Get("Location"); got != want {
			t.Errorf("below /flow: next %q leads to %q, want %q", next, got, want)
		}
	}
}

func TestHeadersAndBodies(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/auth/login", "/api/v2/echo", "/nowhere", "/auth/static/auth.css"} {
		h := f.do("GET", path, nil, nil).Header()
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin",
		} {
			if !strings.Contains(h.Get(name), want) {
				t.Errorf("%s: %s is %q, want %q", path, name, h.Get(name), want)
			}
		}
		if csp := h.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
	}
	if w := f.do("GET", "/auth/static/login.html", nil, nil); w.Code != 404 {
		t.Errorf("a template is served: %d", w.Code)
	}
	if w := f.do("GET", "/auth/static/..%2fauth.go", nil, nil); w.Code != 404 {
		t.Errorf("a path out of the folder: %d", w.Code)
	}
	if page := f.do("GET", "/auth/login", nil, nil).Body.String(); strings.Contains(page, "<script") || strings.Contains(page, "style=") || strings.Contains(page, "http://") {
		t.Errorf("the page has what its policy forbids: %s", page)
	}
	f.want(f.do("POST", "/auth/token", strings.Repeat("x", 2<<20), nil), 413, "larger than")
	f.want(f.do("POST", "/auth/token", `{"username":"`+strings.Repeat("x", maxCredentials)+`"}`, nil), 422, "detail")
	f.want(f.do("POST", "/auth/token", `{"username":"a","password":"b"}`, header{"Content-Type": "text/plain"}), 422, "expected application/json")
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/auth/login", strings.NewReader(strings.Repeat("x", 2<<20)))
	r.ContentLength = -1 // of unknown length
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	f.want(w, 422, "detail")
}

func TestSource(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	})
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1", "", "192.0.2.1"}, // a function
		{"192.0.2.1:5", "1.2.3.4", "192.0.2.1"},
		{"10.0.0.1:5", "1.2.3.4", "1.2.3.4"},
		{"10.0.0.1:5", "6.6.6.6, 1.2.3.4, 10.0.0.9", "1.2.3.4"},
		{"10.0.0.1:5", "6.6.6.6, rubbish, 10.0.0.9", "10.0.0.9"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"[::1]:5", "::ffff:1.2.3.4", "1.2.3.4"},
		{"[2001:db8::1]:5", "", "2001:db8::/64"},
		{"[fe80::1%eth0]:5", "", "fe80::/64"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := f.s.Source(r); got != c.want {
			t.Errorf("%s forwarded for %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "192.0.2.1:5"
	r.Header.Set("X-Forwarded-Proto", "https")
	if f.s.https(r) {
		t.Error("anybody may say that they use TLS")
	}
	if r.RemoteAddr = "10.1.1.1:5"; !f.s.https(r) {
		t.Error("our proxy may not say that it uses TLS")
	}
}

func TestRotationKeepsSessions(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	old := f.token("jo")
	other, err := New(Options{Store: f.store, Now: f.s.o.Now}) // a process that has seen the first key only
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.identify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(10 * time.Second)
	if _, n, err := f.s.RotateKeys(t.Context()); err != nil || n != 2 {
		t.Fatalf("rotate: %d keys, %v", n, err)
	}
	fresh := f.token("jo")
	for name, token := range map[string]string{"old": old, "new": fresh} {
		for i, s := range []*Service{f.s, other} {
			if _, err := s.identify(t.Context(), token); err != nil {
				t.Errorf("the %s token in process %d: %v", name, i, err)
			}
		}
	}
	f.now = f.now.Add(24*time.Hour + time.Minute)
	if _, err := f.s.identify(t.Context(), fresh); err == nil {
		t.Error("a token outlives its day")
	}
	f.now = f.now.Add(time.Hour)
	if _, n, err := f.s.RotateKeys(t.Context()); err != nil || n != 2 {
		t.Errorf("after a day the first key is still there: %d keys, %v", n, err)
	}
	last := f.token("jo")
	if _, err := f.s.RevokeAllTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(keyCacheLife)
	for i, s := range []*Service{f.s, other} {
		if _, err := s.identify(t.Context(), last); !errors.Is(err, errToken) {
			t.Errorf("process %d takes a token of a key that is gone: %v", i, err)
		}
	}
	// The keys are sealed: nothing of them is in the store in the clear.
	keys, err := f.store.SigningKeys(t.Context())
	if err != nil || len(keys) != 1 || len(keys[0].Secret) != signingKeyBytes {
		t.Errorf("keys %v, %v", len(keys), err)
	}
}

// TestDisabledAloneIsEnough: also a record that was changed without a new generation
// keeps its user out.
func TestDisabledAloneIsEnough(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	token := f.token("jo")
	if _, err := f.store.UpdateUser(t.Context(), "jo", func(u *store.User) error { u.Disabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	f.want(f.echo(bearer(token)), 403, "Invalid")
}

func TestFirstProcessesAgreeOnAKey(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	tokens := make([]string, 8)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			s, err := New(Options{Store: f.store, Now: f.s.o.Now})
			if err != nil {
				t.Error(err)
				return
			}
			u, err := f.store.GetUser(t.Context(), "jo")
			if err != nil {
				t.Error(err)
				return
			}
			if tokens[i], _, err = s.issue(t.Context(), u, KindUser); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if _, err := f.s.identify(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
}

func TestPasswordHash(t *testing.T) {
	f := newFixture(t)
	cheap := passwordCost
	defer func() { passwordCost = cheap }()
	passwordCost = argonParams{19 << 10, 2, 1} // the costs in earnest
	f.user("jo", User)
	u, err := f.store.GetUser(t.Context(), "jo")
	if err != nil || !strings.HasPrefix(u.PasswordHash, "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(u.PasswordHash, goodPassword) {
		t.Errorf("hash %q, %v", u.PasswordHash, err)
	}
	if a, b := mustHash(t, f.s), mustHash(t, f.s); a == b {
		t.Error("two hashes of a password are the same: no salt")
	}
	// Costs that are raised later come into force when people sign in.
	passwordCost.time = 3
	f.token("jo")
	if u, err = f.store.GetUser(t.Context(), "jo"); err != nil || !strings.Contains(u.PasswordHash, "t=3,") {
		t.Errorf("not hashed again: %q, %v", u.PasswordHash, err)
	}
	f.token("jo")
	for _, bad := range []string{"x", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=99999999,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=1,p=1$$"} {
		if ok, _, err := f.s.passwordMatches(t.Context(), bad, ""); ok || err == nil {
			t.Errorf("hash %q: %v, %v", bad, ok, err)
		}
	}
}

func TestFirstAdminFromASecret(t *testing.T) {
	asked := 0
	f := newFixture(t, func(o *Options) {
		o.FirstAdminPassword = func(context.Context) (string, error) { asked++; return "from the secret 1", nil }
	})
	f.want(f.do("POST", "/auth/token", creds("jo", "x"), nil), 401, "Invalid")
	if asked != 0 {
		t.Error("the secret is read for somebody else's sign-in")
	}
	f.want(f.do("POST", "/auth/token", creds("admin", "wrong"), nil), 401, "Invalid")
	f.want(f.do("POST", "/auth/token", creds("admin", "from the secret 1"), nil), 201, "access_token")
	if err := f.s.SetPassword(t.Context(), "admin", "chosen by people"); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("POST", "/auth/token", creds("admin", "from the secret 1"), nil), 401, "Invalid")
	f.user("boss", Admin)
	if err := f.s.DeleteUser(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	f.want(f.do("POST", "/auth/token", creds("admin", "from the secret 1"), nil), 401, "Invalid")
	if asked != 1 {
		t.Errorf("the secret was read %d times, want once", asked)
	}
}

func TestAuditOfSignIns(t *testing.T) {
	f := newFixture(t)
	f.user("jo", User)
	f.do("POST", "/auth/token", creds("jo", "wrong"), header{"from": "192.0.2.7:1"})
	token := f.token("jo")
	f.do("POST", "/auth/logout", nil, bearer(token))
	events, _, err := f.store.ListAudit(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range events {
		count[e.Event+" "+e.Owner+" "+e.Source]++
		if strings.Contains(string(e.Extra), goodPassword) || strings.Contains(string(e.Extra), token) {
			t.Errorf("a secret is in the audit log: %s", e.Extra)
		}
	}
	for _, want := range []string{"sign_in_failed jo 192.0.2.7", "sign_in jo 192.0.2.1", "sign_out jo 192.0.2.1"} {
		if count[want] != 1 {
			t.Errorf("audit has %v, want one %q", count, want)
		}
	}
}

func TestHandlerBelowAPath(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.BaseURL = "https://gust.example.com/flow" })
	f.handler = f.s.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { writeJSON(w, 200, r.URL.Path) }))
	for path, want := range map[string]string{
		"/flow/auth/login": `action="/flow/auth/login"`, "/auth/login": `action="/flow/auth/login"`, "/flow/dags": `"/flow/dags"`, "/": `"/"`,
		"/auth/nowhere": "Not Found", "/flow/auth/nowhere": "Not Found", "/authors": `"/authors"`, "/flow/flow/auth/login": `"/flow/flow/auth/login"`,
	} {
		w := f.do("GET", path, nil, nil)
		if !strings.Contains(w.Body.String(), want) || w.Header().Get("X-Content-Type-Options") == "" {
			t.Errorf("%s: %d %s, want %s", path, w.Code, w.Body, want)
		}
	}
}

// TestNothingSecretIsLogged: whatever is tried, no password, token or key is in the
// server's log or in the audit log.
func TestNothingSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	f := newFixture(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	f.user("jo", Admin)
	good := f.token("jo")
	api, made, err := f.s.CreateAPIToken(t.Context(), NewAPIToken{Owner: "jo", Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{goodPassword, "typed-password-1", good, strings.Split(good, ".")[2], api, api[len(apiTokenPrefix)+len(made.ID)+1:]}
	for _, token := range f.forgeries("jo", good) {
		f.echo(bearer(token))
		if len(token) < 2000 && strings.Count(token, ".") == 2 && len(token) > 100 {
			secrets = append(secrets, token)
		}
	}
	f.echo(bearer(api))
	f.echo(bearer(api + "x"))
	f.echo(bearer(flip(api)))
	f.echo(header{"Cookie": CookieName + "=" + good, "Sec-Fetch-Site": "cross-site"})
	f.do("POST", "/api/v2/echo", nil, header{"Cookie": CookieName + "=" + good, "Sec-Fetch-Site": "cross-site"})
	for range signInsPerAccount + 2 {
		f.do("POST", "/auth/token", creds("jo", "typed-password-1"), nil)
		f.do("POST", "/auth/token", creds("typed-password-1", "x"), nil)
		f.form(url.Values{"username": {"typed-password-1"}, "password": {goodPassword}}, nil)
	}
	f.do("POST", "/auth/token", `{"username":"jo","password":"`+goodPassword+`"`, nil)
	f.do("POST", "/auth/password", map[string]string{"current_password": "typed-password-1", "new_password": goodPassword}, bearer(good))
	if _, err := f.s.RevokeAllTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, err := f.store.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		secrets = append(secrets, base64.StdEncoding.EncodeToString(k.Secret), hex.EncodeToString(k.Secret))
	}
	events, _, err := f.store.ListAudit(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	told := log.String()
	for _, e := range events {
		told += fmt.Sprintf("%+v %s", e, e.Extra)
	}
	for _, secret := range secrets {
		if strings.Contains(told, secret) {
			t.Errorf("%.40q… is in a log", secret)
		}
	}
	if !strings.Contains(log.String(), "refused") || len(events) == 0 {
		t.Error("nothing was logged: this test proves nothing")
	}
}
