package auth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// OIDCOptions name an OpenID Connect provider. Issuer and ClientID are required.
type OIDCOptions struct {
	Issuer string // https, or http on this machine
	Name   string // what the sign-in page calls it; default "single sign-on"
	// ClientID and ClientSecret are this installation's at the provider; a public
	// client has no secret.
	ClientID, ClientSecret string
	Scopes                 []string // besides openid
	// UsernameClaim becomes the user's name; default preferred_username. GroupsClaim
	// lists the user's groups; default groups.
	UsernameClaim, GroupsClaim string
	// Roles are those of groups; the highest counts, with every sign-in anew. Without
	// any, roles are managed here, from DefaultRole on.
	Roles map[string]Role
	// DefaultRole is the role of users in no such group; "" keeps them out.
	DefaultRole Role
	// Client reaches the provider; default: one with a time limit.
	Client *http.Client
}

// oidcProvider is a provider, found when it is first needed: one that is away does
// not keep a server from starting.
type oidcProvider struct {
	o OIDCOptions

	mu       sync.Mutex
	endpoint oauth2.Endpoint
	verifier *oidc.IDTokenVerifier
}

func newOIDC(o OIDCOptions) (*oidcProvider, error) {
	var problems []error
	u, err := url.Parse(o.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		problems = append(problems, fmt.Errorf("[oidc] issuer %q: expected an https URL", o.Issuer))
	}
	if o.ClientID == "" {
		problems = append(problems, errors.New("[oidc] client_id: expected the id that the provider gave this installation"))
	}
	for g, r := range o.Roles {
		if r.rank() < 0 {
			problems = append(problems, fmt.Errorf("[oidc] role_mapping: role %q of group %q: expected Viewer, User, Op or Admin", r, g))
		}
	}
	if o.DefaultRole != "" && o.DefaultRole.rank() < 0 {
		problems = append(problems, fmt.Errorf("[oidc] default_role %q: expected Viewer, User, Op or Admin", o.DefaultRole))
	}
	if len(o.Roles) == 0 && o.DefaultRole == "" {
		problems = append(problems, errors.New("[oidc] role_mapping and default_role are both empty: nobody could sign in"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		p   *string
		def string
	}{{&o.Name, "single sign-on"}, {&o.UsernameClaim, "preferred_username"}, {&o.GroupsClaim, "groups"}} {
		if *d.p == "" {
			*d.p = d.def
		}
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 10 * time.Second}
	}
	return &oidcProvider{o: o}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// find reads the provider's description, once.
func (p *oidcProvider) find(ctx context.Context, now func() time.Time) (oauth2.Endpoint, *oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verifier != nil {
		return p.endpoint, p.verifier, nil
	}
	// The keys are read again later, when this request is over.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.o.Client), p.o.Issuer)
	if err != nil {
		return oauth2.Endpoint{}, nil, err
	}
	p.endpoint, p.verifier = provider.Endpoint(), provider.Verifier(&oidc.Config{ClientID: p.o.ClientID, Now: now})
	return p.endpoint, p.verifier, nil
}

func (s *Service) oauth(r *http.Request) (*oauth2.Config, *oidc.IDTokenVerifier, error) {
	endpoint, verifier, err := s.oidc.find(r.Context(), s.o.Now)
	if err != nil {
		return nil, nil, err
	}
	base := strings.TrimRight(s.o.BaseURL, "/")
	if base == "" {
		// The provider sends codes to the addresses it knows only.
		base = "http://" + r.Host
		if s.https(r) {
			base = "https://" + r.Host
		}
	}
	o := s.oidc.o
	return &oauth2.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, Endpoint: endpoint, RedirectURL: base + "/auth/oidc/callback",
		Scopes: append([]string{oidc.ScopeOpenID}, o.Scopes...),
	}, verifier, nil
}

// attempt is what the browser keeps of a sign-in that has gone to the provider. It
// is bound to the answer by State, to the token by Nonce, and to the code by Verifier.
type attempt struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Next     string `json:"x"`
}

// attemptLife is how long people may take at the provider.
const attemptLife = 10 * time.Minute

// attemptCookie is one per attempt, so that two tabs do not disturb each other. With
// TLS its prefix keeps other hosts of the domain from setting it.
func (s *Service) attemptCookie(r *http.Request, state string) *http.Cookie {
	name := "gust_oidc_" + state[:min(len(state), 12)]
	c := &http.Cookie{Name: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.https(r)}
	if c.Secure {
		c.Name = "__Host-" + name
	}
	return c
}

func (s *Service) oidcLogin(w http.ResponseWriter, r *http.Request) {
	conf, _, err := s.oauth(r)
	if err != nil {
		s.oidcTrouble(w, http.StatusBadGateway, "The identity provider does not answer. Try again.", err)
		return
	}
	a := attempt{randomText(24), randomText(24), oauth2.GenerateVerifier(), s.Target(r, r.URL.Query().Get("next"))}
	b, err := json.Marshal(a)
	if err != nil {
		s.oidcTrouble(w, http.StatusInternalServerError, "Signing in failed.", err)
		return
	}
	c := s.attemptCookie(r, a.State)
	c.Value, c.MaxAge = base64.RawURLEncoding.EncodeToString(b), int(attemptLife/time.Second)
	http.SetCookie(w, c)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, conf.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), http.StatusSeeOther)
}

// attemptOf returns the attempt that an answer of the provider belongs to.
func (s *Service) attemptOf(r *http.Request, state string) (attempt, error) {
	var a attempt
	none := errors.New("no sign-in was begun in this browser, or it took too long")
	if state == "" {
		return a, none
	}
	c, err := r.Cookie(s.attemptCookie(r, state).Name)
	if err != nil {
		return a, none
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || json.Unmarshal(b, &a) != nil || a.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) != 1 {
		return a, none
	}
	return a, nil
}

func (s *Service) oidcCallback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	a, err := s.attemptOf(r, q.Get("state"))
	if err != nil {
		s.oidcTrouble(w, http.StatusBadRequest, "This sign-in was not begun in this browser, or took too long. Try again.", err)
		return
	}
	used := s.attemptCookie(r, a.State)
	used.MaxAge = -1
	http.SetCookie(w, used)
	if e := q.Get("error"); e != "" {
		s.oidcTrouble(w, http.StatusForbidden, "The identity provider refused to sign you in.", fmt.Errorf("the provider answered %q", e))
		return
	}
	conf, verifier, err := s.oauth(r)
	if err != nil {
		s.oidcTrouble(w, http.StatusBadGateway, "The identity provider does not answer. Try again.", err)
		return
	}
	ctx := oidc.ClientContext(r.Context(), s.oidc.o.Client)
	got, err := conf.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		s.oidcTrouble(w, http.StatusBadGateway, "The identity provider did not accept the sign-in. Try again.", providerError(err))
		return
	}
	raw, _ := got.Extra("id_token").(string)
	token, err := verifier.Verify(ctx, raw)
	if err == nil && subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(a.Nonce)) != 1 {
		err = errors.New("the nonce is not that of this sign-in")
	}
	if err != nil {
		s.oidcTrouble(w, http.StatusForbidden, "The identity provider's answer is not valid.", err)
		return
	}
	u, err := s.oidcUser(r.Context(), token)
	var refused *refusedError
	if errors.As(err, &refused) {
		s.Audit(r.Context(), "sign_in_failed", "", s.Source(r), map[string]string{"how": "oidc", "subject": token.Subject, "reason": refused.Error()})
		s.oidcTrouble(w, http.StatusForbidden, refused.Error(), err)
		return
	}
	if err != nil {
		s.oidcTrouble(w, http.StatusServiceUnavailable, "The store does not answer. Try again.", err)
		return
	}
	session, expires, err := s.issue(r.Context(), u, KindUser)
	if err != nil {
		s.oidcTrouble(w, http.StatusServiceUnavailable, "The store does not answer. Try again.", err)
		return
	}
	s.Audit(r.Context(), "sign_in", u.Username, s.Source(r), map[string]string{"how": "oidc", "role": u.Role})
	s.setSession(w, r, session, expires)
	http.Redirect(w, r, s.Target(r, a.Next), http.StatusSeeOther)
}

// providerError leaves out of an error what the provider's answer held.
func providerError(err error) error {
	var re *oauth2.RetrieveError
	if errors.As(err, &re) {
		status := 0
		if re.Response != nil {
			status = re.Response.StatusCode
		}
		return fmt.Errorf("the token endpoint answered %d %s", status, re.ErrorCode)
	}
	return err
}

// refusedError is a reason that the person at the browser is told.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// oidcUser returns the user that a token speaks of, made or brought up to date. A
// name never passes from one person to another: not from a local user to the
// provider's, nor between two subjects of it.
func (s *Service) oidcUser(ctx context.Context, token *oidc.IDToken) (store.User, error) {
	none := store.User{}
	var c map[string]any
	if err := token.Claims(&c); err != nil {
		return none, &refusedError{"The identity provider's answer cannot be read."}
	}
	text := func(claim string) string { t, _ := c[claim].(string); return t }
	o := s.oidc.o
	name := text(o.UsernameClaim)
	if err := checkUsername(name); err != nil {
		return none, &refusedError{fmt.Sprintf("The identity provider gave no usable name in %s.", o.UsernameClaim)}
	}
	if verified, given := c["email_verified"]; o.UsernameClaim == "email" && given && verified != true && verified != "true" {
		return none, &refusedError{"Your e-mail address is not verified at the identity provider."}
	}
	role := o.DefaultRole
	for _, g := range texts(c[o.GroupsClaim]) {
		if r, ok := o.Roles[g]; ok && r.rank() > role.rank() {
			role = r
		}
	}
	if role == "" {
		return none, &refusedError{"None of your groups may use this installation."}
	}
	refresh := func(u *store.User) error {
		if u.Provider != token.Issuer || u.Subject != token.Subject {
			return &refusedError{fmt.Sprintf("The name %s belongs to somebody else here.", name)}
		}
		if u.Disabled {
			return &refusedError{"Your account is disabled."}
		}
		if len(o.Roles) > 0 {
			u.Role = string(role)
		}
		u.Email, u.FirstName, u.LastName, u.LastLogin = text("email"), text("given_name"), text("family_name"), s.now()
		return nil
	}
	u, err := s.store.UpdateUser(ctx, name, refresh)
	if !errors.Is(err, airflow.ErrNotFound) {
		return u, err
	}
	u = store.User{Username: name, Role: string(role), Provider: token.Issuer, Subject: token.Subject, Generation: randomText(12), CreatedAt: s.now()}
	if err := refresh(&u); err != nil {
		return none, err
	}
	err = s.store.CreateUser(ctx, u)
	if errors.Is(err, airflow.ErrAlreadyExists) { // in another tab, a moment ago
		return s.store.UpdateUser(ctx, name, refresh)
	}
	if err != nil {
		return none, err
	}
	s.Audit(ctx, "user_create", name, "", map[string]string{"username": name, "role": u.Role, "how": "oidc"})
	return u, nil
}

// texts reads a claim that is a text or a list of them.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if t, ok := e.(string); ok {
				out = append(out, t)
			}
		}
		return out
	}
	return nil
}

func (s *Service) oidcTrouble(w http.ResponseWriter, status int, said string, err error) {
	s.log.Warn("sign-in by the identity provider failed", "err", err)
	v := s.view(s.base + "/")
	v.Error = said
	s.page(w, status, "login.html", v)
}
