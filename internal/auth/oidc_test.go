package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gustflow/gust/internal/store"
)

// provider is an OpenID Connect provider with keys of its own, over HTTP: discovery,
// keys, authorization and token endpoints (RFC 6749, 7636, OpenID Connect Core). It
// checks what a strict provider checks, and can be told to misbehave.
type provider struct {
	t    *testing.T
	srv  *httptest.Server
	key  *rsa.PrivateKey
	want string // redirect_uri

	mu    sync.Mutex
	codes map[string]url.Values // the authorization request of each code
	// user are the claims of whoever is signed in at the provider.
	user map[string]any
	// spoil changes what the next token says; sign is another key for it.
	spoil func(jwt.MapClaims)
	sign  *rsa.PrivateKey
	deny  bool
}

// providerKey is made once: it takes a while.
var providerKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

const (
	testClientID     = "gust-test"
	testClientSecret = "s3cret/with+odd chars"
)

func newProvider(t *testing.T) *provider {
	t.Helper()
	key := providerKey()
	p := &provider{t: t, key: key, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		u := p.srv.URL
		writeJSON(w, 200, map[string]any{
			"issuer": u, "authorization_endpoint": u + "/authorize", "token_endpoint": u + "/token", "jwks_uri": u + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
			"code_challenge_methods_supported": []string{"S256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		e := base64.RawURLEncoding
		writeJSON(w, 200, map[string]any{"keys": []map[string]string{{
			"kty": "RSA", "kid": "k1", "alg": "RS256", "use": "sig", "n": e.EncodeToString(key.N.Bytes()), "e": e.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.srv = httptest.NewServer(mux)
	t.Cleanup(p.srv.Close)
	return p
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case q.Get("client_id") != testClientID, q.Get("redirect_uri") != p.want:
		http.Error(w, "unknown client or redirect_uri "+q.Get("redirect_uri"), 400) // never redirected, RFC 6749 4.1.2.1
		return
	case q.Get("response_type") != "code", !strings.Contains(" "+q.Get("scope")+" ", " openid "), len(q.Get("state")) < 16, len(q.Get("nonce")) < 16,
		q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43:
		http.Error(w, "not what OpenID Connect with PKCE asks for: "+r.URL.RawQuery, 400)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if p.deny {
		back.Set("error", "access_denied")
	} else {
		code := randomText(16)
		p.codes[code] = q
		back.Set("code", code)
	}
	http.Redirect(w, r, p.want+"?"+back.Encode(), http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	asked, known := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code")) // once
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if id != testClientID || secret != testClientSecret || !known || r.PostFormValue("grant_type") != "authorization_code" ||
		r.PostFormValue("redirect_uri") != p.want || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
		writeJSON(w, 400, map[string]string{"error": "invalid_grant"})
		return
	}
	c := jwt.MapClaims{"iss": p.srv.URL, "aud": testClientID, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "nonce": asked.Get("nonce")}
	for k, v := range p.user {
		c[k] = v
	}
	if p.spoil != nil {
		p.spoil(c)
	}
	key := p.key
	if p.sign != nil {
		key = p.sign
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	t.Header["kid"] = "k1"
	text, err := t.SignedString(key)
	if err != nil {
		p.t.Error(err)
	}
	writeJSON(w, 200, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": text})
}

// oidcSite is a server of ours, over HTTP, that trusts a provider.
type oidcSite struct {
	p   *provider
	s   *Service
	st  *store.Store
	url string
}

func newOIDCSite(t *testing.T, set func(*OIDCOptions)) *oidcSite {
	t.Helper()
	p := newProvider(t)
	o := &OIDCOptions{
		Issuer: p.srv.URL, Name: "Test ID", ClientID: testClientID, ClientSecret: testClientSecret, Scopes: []string{"profile", "email"},
		Roles: map[string]Role{"ops": Op, "all": Viewer},
	}
	if set != nil {
		set(o)
	}
	f := newFixture(t, func(so *Options) { so.OIDC, so.Now = o, nil })
	srv := httptest.NewServer(f.handler)
	t.Cleanup(srv.Close)
	p.want = srv.URL + "/auth/oidc/callback"
	return &oidcSite{p, f.s, f.store, srv.URL}
}

// browser follows redirects and keeps cookies.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func (o *oidcSite) get(t *testing.T, c *http.Client, address string) (int, string, *url.URL) {
	t.Helper()
	r, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b), r.Request.URL
}

func (o *oidcSite) is(u map[string]any) {
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	o.p.user = u
}

func jo(groups ...string) map[string]any {
	return map[string]any{"sub": "42", "preferred_username": "jo", "email": "jo@example.com", "given_name": "Jo", "groups": groups}
}

func TestOIDC(t *testing.T) {
	o := newOIDCSite(t, nil)
	o.is(jo("all", "ops", "unknown"))
	c := browser(t)
	if _, page, _ := o.get(t, c, o.url+"/auth/login?next=/api/v2/echo"); !strings.Contains(page, "Sign in with Test ID") || !strings.Contains(page, "/auth/oidc/login?next=%2fapi%2fv2%2fecho") {
		t.Errorf("the page has no way to the provider: %s", page)
	}
	status, body, at := o.get(t, c, o.url+"/auth/oidc/login?next=/api/v2/echo")
	var who map[string]string
	if err := json.Unmarshal([]byte(body), &who); err != nil || status != 200 || at.Path != "/api/v2/echo" || who["name"] != "jo" || who["role"] != "Op" {
		t.Fatalf("signed in: %d %s at %s", status, body, at)
	}
	u, err := o.st.GetUser(t.Context(), "jo")
	if err != nil || u.Provider != o.p.srv.URL || u.Subject != "42" || u.Email != "jo@example.com" || u.PasswordHash != "" {
		t.Errorf("user %+v, %v", u, err)
	}
	home, _ := url.Parse(o.url)
	for _, k := range c.Jar.Cookies(home) {
		if k.Name != CookieName {
			t.Errorf("cookie %s of the attempt is left", k.Name)
		}
	}
	// Groups change: the role with the next sign-in, and at once for sessions that live.
	o.is(jo("all"))
	o.get(t, browser(t), o.url+"/auth/oidc/login")
	if _, body, _ := o.get(t, c, o.url+"/api/v2/echo"); !strings.Contains(body, `"role":"Viewer"`) {
		t.Errorf("after the group was left: %s", body)
	}
	// No password can be set or guessed.
	if err := o.s.SetPassword(t.Context(), "jo", "long enough"); err == nil {
		t.Error("a provider's user gets a password")
	}
	if err := o.s.SetDisabled(t.Context(), "jo", true); err != nil {
		t.Fatal(err)
	}
	if status, page, _ := o.get(t, browser(t), o.url+"/auth/oidc/login"); status != 403 || !strings.Contains(page, "disabled") {
		t.Errorf("a disabled user: %d", status)
	}
}

func TestOIDCRefuses(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		set  func(*OIDCOptions)
		user map[string]any
		p    func(*provider)
		want int
		said string
	}{
		{"no group", nil, jo("unknown"), nil, 403, "None of your groups"},
		{"no groups claim", nil, map[string]any{"sub": "1", "preferred_username": "x"}, nil, 403, "None of your groups"},
		{"no name", nil, map[string]any{"sub": "1", "groups": "ops"}, nil, 403, "no usable name"},
		{"a name to cheat with", nil, map[string]any{"sub": "1", "preferred_username": "jo\u202e", "groups": "ops"}, nil, 403, "no usable name"},
		{"a local user's name", nil, map[string]any{"sub": "1", "preferred_username": "local", "groups": "ops"}, nil, 403, "belongs to somebody else"},
		{"another subject's name", nil, map[string]any{"sub": "1", "preferred_username": "known", "groups": "ops"}, nil, 403, "belongs to somebody else"},
		{"an address that is not verified", func(o *OIDCOptions) { o.UsernameClaim = "email" }, map[string]any{"sub": "1", "email": "a@b.c", "email_verified": false, "groups": "ops"}, nil, 403, "not verified"},
		{"the provider denies", nil, jo("ops"), func(p *provider) { p.deny = true }, 403, "refused"},
		{"another nonce", nil, jo("ops"), func(p *provider) { p.spoil = func(c jwt.MapClaims) { c["nonce"] = "x" } }, 403, "not valid"},
		{"no nonce", nil, jo("ops"), func(p *provider) { p.spoil = func(c jwt.MapClaims) { delete(c, "nonce") } }, 403, "not valid"},
		{"another audience", nil, jo("ops"), func(p *provider) { p.spoil = func(c jwt.MapClaims) { c["aud"] = "else" } }, 403, "not valid"},
		{"another issuer", nil, jo("ops"), func(p *provider) { p.spoil = func(c jwt.MapClaims) { c["iss"] = "https://else" } }, 403, "not valid"},
		{"an expired token", nil, jo("ops"), func(p *provider) { p.spoil = func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() } }, 403, "not valid"},
		{"another key", nil, jo("ops"), func(p *provider) { p.sign = other }, 403, "not valid"},
		{"another secret", func(o *OIDCOptions) { o.ClientSecret = "wrong" }, jo("ops"), nil, 502, "did not accept"},
	} {
		o := newOIDCSite(t, c.set)
		if _, err := o.s.CreateUser(t.Context(), NewUser{Username: "local", Password: goodPassword, Role: Admin}); err != nil {
			t.Fatal(err)
		}
		if err := o.st.CreateUser(t.Context(), store.User{Username: "known", Provider: o.p.srv.URL, Subject: "77", Role: "Op", Generation: "g"}); err != nil {
			t.Fatal(err)
		}
		o.is(c.user)
		if c.p != nil {
			c.p(o.p)
		}
		b := browser(t)
		status, page, _ := o.get(t, b, o.url+"/auth/oidc/login")
		if status != c.want || !strings.Contains(page, c.said) {
			t.Errorf("%s: %d, want %d with %q", c.name, status, c.want, c.said)
		}
		if status, _, _ := o.get(t, b, o.url+"/api/v2/echo"); status != 401 {
			t.Errorf("%s: signed in all the same: %d", c.name, status)
		}
		if us, err := o.s.Users(t.Context()); err != nil || len(us) != 2 {
			t.Errorf("%s: %d users, %v; none may be made", c.name, len(us), err)
		}
	}
}

func TestOIDCStateBelongsToTheBrowser(t *testing.T) {
	o := newOIDCSite(t, nil)
	o.is(jo("ops"))
	// An attacker goes to the provider and keeps the answer, without following it.
	attacker := browser(t)
	var answer string
	attacker.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/callback") {
			answer = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	o.get(t, attacker, o.url+"/auth/oidc/login")
	if answer == "" {
		t.Fatal("no answer of the provider")
	}
	victim := browser(t)
	if status, page, _ := o.get(t, victim, answer); status != 400 || !strings.Contains(page, "not begun in this browser") {
		t.Errorf("another browser takes the answer: %d", status)
	}
	if status, _, _ := o.get(t, attacker, o.url+"/auth/oidc/callback?code=x"); status != 400 {
		t.Errorf("without a state: %d", status)
	}
	if status, _, _ := o.get(t, attacker, strings.Replace(answer, "state=", "state=x", 1)); status != 400 {
		t.Errorf("another state: %d", status)
	}
	at, err := url.Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	q := at.Query()
	state := q.Get("state")
	q.Set("state", state[:len(state)-1]+map[bool]string{true: "B", false: "A"}[state[len(state)-1] == 'A'])
	at.RawQuery = q.Encode()
	if status, _, _ := o.get(t, attacker, at.String()); status != 400 {
		t.Errorf("a state that ends otherwise: %d", status)
	}
	attacker.CheckRedirect = nil
	if status, _, at := o.get(t, attacker, answer); at.Path != "/" {
		t.Errorf("the right browser: %d at %s", status, at)
	}
	if status, _, _ := o.get(t, attacker, answer); status != 400 {
		t.Errorf("the answer a second time: %d", status)
	}
}

func TestOIDCWithoutItsProvider(t *testing.T) {
	o := newOIDCSite(t, nil)
	o.p.srv.Close()
	if status, page, _ := o.get(t, browser(t), o.url+"/auth/oidc/login"); status != 502 || !strings.Contains(page, "does not answer") {
		t.Errorf("a provider that is away: %d", status)
	}
	if status, _, _ := o.get(t, browser(t), o.url+"/auth/login"); status != 200 {
		t.Errorf("local users cannot sign in meanwhile: %d", status)
	}
}

func TestOIDCOptions(t *testing.T) {
	for _, bad := range []OIDCOptions{
		{}, {Issuer: "http://idp.example.com", ClientID: "x", DefaultRole: Viewer}, {Issuer: "https://idp.example.com", DefaultRole: Viewer},
		{Issuer: "https://idp.example.com", ClientID: "x"}, {Issuer: "https://idp.example.com", ClientID: "x", DefaultRole: "King"},
		{Issuer: "https://idp.example.com", ClientID: "x", Roles: map[string]Role{"g": "King"}},
	} {
		if _, err := newOIDC(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
