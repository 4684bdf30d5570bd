package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// What people do with their own account. All of it needs to be signed in; what
// makes or changes a credential needs a session or a token of POST /auth/token, so
// that an API token that leaks cannot be turned into others.

type tokenView struct {
	ID        string           `json:"id"`
	Name      string           `json:"name"`
	Owner     string           `json:"owner"`
	Role      string           `json:"role"`
	Scopes    []store.DagScope `json:"scopes"`
	CreatedAt time.Time        `json:"created_at"`
	ExpiresAt *time.Time       `json:"expires_at"`
	LastUsed  *time.Time       `json:"last_used"`
	// Token is there once, in the answer to its creation.
	Token string `json:"token,omitempty"`
}

func viewOf(t store.APIToken) tokenView {
	v := tokenView{ID: t.ID, Name: t.Name, Owner: t.Owner, Role: t.Role, Scopes: t.Scopes, CreatedAt: t.CreatedAt}
	if v.Scopes == nil {
		v.Scopes = []store.DagScope{}
	}
	if !t.ExpiresAt.IsZero() {
		v.ExpiresAt = &t.ExpiresAt
	}
	if !t.LastUsed.IsZero() {
		v.LastUsed = &t.LastUsed
	}
	return v
}

// accountRoutes adds the handlers of one's own account.
func (s *Service) accountRoutes(mux *http.ServeMux) {
	signedIn := func(f http.HandlerFunc) http.Handler { return s.Middleware(f, nil) }
	mux.Handle("GET /auth/me", signedIn(s.me))
	mux.Handle("POST /auth/password", signedIn(s.changePassword))
	mux.Handle("GET /auth/tokens", signedIn(s.listTokens))
	mux.Handle("POST /auth/tokens", signedIn(s.newToken))
	mux.Handle("DELETE /auth/tokens/{id}", signedIn(s.dropToken))
}

// readBody reads a closed JSON object.
func readBody(w http.ResponseWriter, r *http.Request, dst any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCredentials))
	d.DisallowUnknownFields()
	err := d.Decode(dst)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		Refuse(w, http.StatusUnprocessableEntity, "body: expected one JSON object: "+err.Error())
	}
	return err == nil
}

// inPerson refuses identities that must not make or change credentials.
func inPerson(w http.ResponseWriter, id Identity) bool {
	if id.Kind != KindUser {
		Refuse(w, http.StatusForbidden, "Sign in for this: it cannot be done with an API token or a token of the command line")
		return false
	}
	return true
}

func (s *Service) me(w http.ResponseWriter, r *http.Request) {
	id, _ := From(r.Context())
	u, err := s.store.GetUser(r.Context(), id.Name)
	if err != nil {
		s.trouble(w, err)
		return
	}
	scopes := u.Scopes
	if scopes == nil {
		scopes = []store.DagScope{}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"username": u.Username, "role": id.Role, "kind": id.Kind, "scopes": scopes, "email": u.Email, "first_name": u.FirstName, "last_name": u.LastName,
		"has_password": u.PasswordHash != "",
	})
}

func (s *Service) changePassword(w http.ResponseWriter, r *http.Request) {
	id, _ := From(r.Context())
	var body struct {
		Current string `json:"current_password"`
		New     string `json:"new_password"`
	}
	if !inPerson(w, id) || !readBody(w, r, &body) {
		return
	}
	if err := checkPassword(id.Name, body.New); err != nil {
		Refuse(w, http.StatusUnprocessableEntity, "new_password: "+err.Error())
		return
	}
	// A session that somebody left open is no proof; the limits are those of sign-in.
	if _, err := s.SignIn(r.Context(), id.Name, body.Current, id.Source); err != nil {
		if errors.Is(err, ErrCredentials) {
			Refuse(w, http.StatusForbidden, "current_password: it is not the password")
			return
		}
		s.refuseSignIn(w, err)
		return
	}
	if err := s.SetPassword(r.Context(), id.Name, body.New); err != nil {
		s.refuseChange(w, err)
		return
	}
	s.Audit(r.Context(), "user_reset_password", id.Name, id.Source, map[string]string{"username": id.Name})
	// All sessions have ended; this one goes on under the new password.
	if id.cookie {
		u, err := s.store.GetUser(r.Context(), id.Name)
		if err != nil {
			s.trouble(w, err)
			return
		}
		token, expires, err := s.issue(r.Context(), u, KindUser)
		if err != nil {
			s.trouble(w, err)
			return
		}
		s.setSession(w, r, token, expires)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) refuseChange(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, airflow.ErrNotAllowed):
		Refuse(w, http.StatusConflict, err.Error())
	case errors.Is(err, airflow.ErrUnavailable), errors.Is(err, airflow.ErrThrottled), errors.Is(err, airflow.ErrConflict):
		s.trouble(w, err)
	default:
		Refuse(w, http.StatusUnprocessableEntity, err.Error())
	}
}

func (s *Service) listTokens(w http.ResponseWriter, r *http.Request) {
	id, _ := From(r.Context())
	ts, err := s.APITokens(r.Context(), id.Name)
	if err != nil {
		s.trouble(w, err)
		return
	}
	out := make([]tokenView, 0, len(ts))
	for _, t := range ts {
		out = append(out, viewOf(t))
	}
	writeJSON(w, http.StatusOK, map[string]any{"tokens": out, "total_entries": len(out)})
}

func (s *Service) newToken(w http.ResponseWriter, r *http.Request) {
	id, _ := From(r.Context())
	days := 90
	body := struct {
		Name   string           `json:"name"`
		Role   string           `json:"role"`
		Scopes []store.DagScope `json:"scopes"`
		Days   *int             `json:"days"` // 0 = until it is revoked
	}{Days: &days}
	if !inPerson(w, id) || !readBody(w, r, &body) {
		return
	}
	if body.Days == nil || *body.Days < 0 || *body.Days > 36500 {
		Refuse(w, http.StatusUnprocessableEntity, "days: expected 1 to 36500, or 0 for a token that does not expire")
		return
	}
	n := NewAPIToken{Owner: id.Name, Name: body.Name, Scopes: body.Scopes, Life: time.Duration(*body.Days) * 24 * time.Hour}
	if body.Role != "" {
		role, err := ParseRole(body.Role)
		if err != nil {
			Refuse(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		n.Role = role
	}
	token, t, err := s.CreateAPIToken(r.Context(), n)
	if err != nil {
		s.refuseChange(w, err)
		return
	}
	s.Audit(r.Context(), "token_create", id.Name, id.Source, map[string]string{"id": t.ID, "name": t.Name, "role": t.Role})
	v := viewOf(t)
	v.Token = token
	writeJSON(w, http.StatusCreated, v)
}

func (s *Service) dropToken(w http.ResponseWriter, r *http.Request) {
	id, _ := From(r.Context())
	if !inPerson(w, id) {
		return
	}
	name := r.PathValue("id")
	t, err := s.store.GetAPIToken(r.Context(), name)
	if err == nil && t.Owner != id.Name && !id.May(Delete, ResourceToken, "", nil) {
		err = airflow.ErrNotFound // other people's tokens are not there
	}
	if err == nil {
		err = s.RevokeAPIToken(r.Context(), name)
	}
	switch {
	case errors.Is(err, airflow.ErrNotFound):
		Refuse(w, http.StatusNotFound, fmt.Sprintf("API token %q does not exist", name))
	case err != nil:
		s.trouble(w, err)
	default:
		s.Audit(r.Context(), "token_revoke", id.Name, id.Source, map[string]string{"id": t.ID, "name": t.Name, "username": t.Owner})
		w.WriteHeader(http.StatusNoContent)
	}
}
