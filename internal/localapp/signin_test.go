package localapp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/auth"
)

func TestFirstAdmin(t *testing.T) {
	a, err := Open(t.Context(), Options{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	s, err := a.NewAuth()
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.FirstAdmin(t.Context(), s, "")
	if err != nil || first == nil {
		t.Fatalf("first start: %+v, %v", first, err)
	}
	st, err := os.Stat(first.File)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the password's file: %v, %v; want 0600", st, err)
	}
	b, err := os.ReadFile(first.File)
	if err != nil || strings.TrimSpace(string(b)) != first.Password {
		t.Errorf("the file does not hold the password: %v", err)
	}
	if u, err := s.SignIn(t.Context(), "admin", first.Password, "127.0.0.1"); err != nil || u.Role != string(auth.Admin) {
		t.Errorf("sign in with it: %+v, %v", u, err)
	}
	if again, err := a.FirstAdmin(t.Context(), s, ""); again != nil || err != nil {
		t.Errorf("second start: %+v, %v; want nothing", again, err)
	}

	// GUST_ADMIN_PASSWORD sets it, and a short one is refused.
	if _, err := a.FirstAdmin(t.Context(), s, "a better one 42"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignIn(t.Context(), "admin", "a better one 42", "127.0.0.1"); err != nil {
		t.Errorf("sign in with the password of the environment: %v", err)
	}
	if _, err := s.SignIn(t.Context(), "admin", first.Password, "127.0.0.1"); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("the old password: %v", err)
	}
	if _, err := a.FirstAdmin(t.Context(), s, "short"); err == nil || !strings.Contains(err.Error(), auth.AdminPasswordEnv) || strings.Contains(err.Error(), "short") {
		t.Errorf("a short password: %v", err)
	}
}

func TestFirstAdminAfterACrash(t *testing.T) {
	a, err := Open(t.Context(), Options{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := os.WriteFile(a.Home.AdminPasswordFile(), []byte("written-before-the-crash\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := a.NewAuth()
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.FirstAdmin(t.Context(), s, "")
	if err != nil || first == nil || first.Password != "written-before-the-crash" {
		t.Fatalf("%+v, %v", first, err)
	}
	if st, err := os.Stat(first.File); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// TestSignedIn: what a server serves is behind sign-in, and its parts are told.
func TestSignedIn(t *testing.T) {
	a, err := Open(t.Context(), Options{Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var first FirstSignIn
	h, err := a.signedIn(t.Context(), ServeOptions{SignIn: func(f FirstSignIn) { first = f }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	post := func(password string) int {
		t.Helper()
		r, err := http.Post(srv.URL+"/auth/token", "application/json", strings.NewReader(`{"username":"admin","password":"`+password+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.Header.Get("Content-Security-Policy") == "" {
			t.Error("no security headers")
		}
		return r.StatusCode
	}
	if got := post(first.Password); got != http.StatusCreated {
		t.Errorf("the first admin: %d", got)
	}
	if got := post("wrong"); got != http.StatusUnauthorized {
		t.Errorf("somebody else: %d", got)
	}
	if r, err := http.Get(srv.URL + "/api/v2/version"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("the version needs no token: %v, %v", r, err)
	} else {
		r.Body.Close()
	}
	// A server that starts again keeps its users.
	told := false
	if _, err := a.signedIn(t.Context(), ServeOptions{SignIn: func(FirstSignIn) { told = true }}); err != nil || told {
		t.Errorf("second start: told %v, %v", told, err)
	}
}
