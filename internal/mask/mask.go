// Package mask keeps secrets out of logs, rendered fields, errors and exports.
//
// A Masker knows secret values (passwords of connections, values of variables
// and extras with a sensitive name) and replaces them by ***, wherever they
// appear. It also redacts JSON by the names of its keys. The rules are
// Airflow's: the list of sensitive names, the values that are too short or too
// common to be masked, and that matching names ignore case and punctuation.
//
// Beyond Airflow, the forms in which a secret usually travels are masked too:
// percent-encoded, escaped in JSON, and the single lines of a secret of several
// lines such as a private key.
package mask

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"github.com/gustflow/gust/internal/airflow"
)

// Replacement stands for a secret.
const Replacement = "***"

// defaultNames are parts of names whose values are secret.
var defaultNames = []string{
	"access_key", "access_token", "api_key", "apikey", "auth_header", "authorization", "bearer", "connection_string", "dsn",
	"keyfile_dict", "passphrase", "passwd", "password", "private_key", "proxies", "proxy", "proxy_password", "secret",
	"service_account", "service_key", "token", "webhook_url",
}

// Options configure a Masker. The zero value is Airflow's default.
type Options struct {
	// ShowSensitive stops hiding values by the name of their key ([core]
	// hide_sensitive_var_conn_fields = False). Added secrets are still masked.
	ShowSensitive bool
	// Names are more parts of names whose values are secret ([core]
	// sensitive_var_conn_names).
	Names []string
	// MinLength is the length in bytes below which a secret is not masked, since
	// it would make logs unreadable ([logging] min_length_masked_secret). Default 5.
	MinLength int
}

// Masker replaces secrets. The zero value is not usable; see New. It is safe
// for concurrent use. Without secrets, masking text costs a pointer load.
type Masker struct {
	show   bool
	names  []string
	minLen int

	mu      sync.Mutex
	secrets map[string]bool
	index   atomic.Pointer[index]
}

// New returns a Masker without secrets.
func New(o Options) *Masker {
	m := &Masker{show: o.ShowSensitive, minLen: o.MinLength, secrets: map[string]bool{}}
	if m.minLen == 0 {
		m.minLen = 5
	}
	m.minLen = max(m.minLen, 2) // the index needs two bytes
	m.names = append(m.names, defaultNames...)
	for _, n := range o.Names {
		if n = strings.ToLower(strings.TrimSpace(n)); n != "" {
			m.names = append(m.names, n)
		}
	}
	return m
}

// Sensitive reports whether the value of a variable, or of a key of an extra or
// conf, is secret by its name.
func (m *Masker) Sensitive(name string) bool {
	if m.show {
		return false
	}
	name = normalize(name)
	for _, n := range m.names {
		if strings.Contains(name, n) {
			return true
		}
	}
	return false
}

// normalize lower-cases and turns each run of other characters into "_".
func normalize(name string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(strings.TrimSpace(name)) {
		if r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) {
			gap = false
			b.WriteRune(r)
			continue
		}
		if !gap {
			b.WriteByte('_')
		}
		gap = true
	}
	return b.String()
}

// Add has a text masked from now on, unless it is too short or the word "airflow".
func (m *Masker) Add(secret string) { m.add(forms(secret)) }

// AddNamed adds the value if the name is sensitive. A JSON value is searched
// for sensitive keys.
func (m *Masker) AddNamed(name, value string) {
	if m.Sensitive(name) {
		m.Add(value)
	}
	m.AddJSON([]byte(value))
}

// AddVariable adds a variable's value if its key says that it is secret.
func (m *Masker) AddVariable(v airflow.Variable) { m.AddNamed(v.Key, v.Value) }

// AddConnection adds a connection's password and the sensitive values of its extra.
func (m *Masker) AddConnection(c airflow.Connection) {
	m.Add(c.Password)
	m.AddJSON([]byte(c.Extra))
}

// AddJSON adds every text below a sensitive key of a JSON value. What is not
// JSON is ignored.
func (m *Masker) AddJSON(value []byte) {
	if len(value) == 0 || value[0] != '{' && value[0] != '[' {
		return
	}
	var v any
	if json.Unmarshal(value, &v) != nil {
		return
	}
	var all []string
	var walk func(v any, secret bool)
	walk = func(v any, secret bool) {
		switch v := v.(type) {
		case string:
			if secret {
				all = append(all, forms(v)...)
			}
		case []any:
			for _, e := range v {
				walk(e, secret)
			}
		case map[string]any:
			for k, e := range v {
				walk(e, secret || m.Sensitive(k))
			}
		}
	}
	walk(v, false)
	m.add(all)
}

func (m *Masker) add(secrets []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for _, s := range secrets {
		if len(s) < m.minLen || strings.EqualFold(s, "airflow") || m.secrets[s] {
			continue
		}
		m.secrets[s] = true
		changed = true
	}
	if changed {
		m.index.Store(newIndex(m.secrets))
	}
}

// minLine is the shortest line of a multi-line secret that is masked by itself.
const minLine = 8

// forms returns a secret and the forms in which it usually travels.
func forms(s string) []string {
	if s == "" {
		return nil
	}
	out := []string{s, percent(s, "/"), percent(s, ""), strings.ReplaceAll(percent(s, ""), "%20", "+")}
	if q, err := json.Marshal(s); err == nil {
		out = append(out, string(q[1:len(q)-1]))
	}
	if strings.ContainsAny(s, "\r\n") {
		for _, line := range strings.FieldsFunc(s, func(r rune) bool { return r == '\r' || r == '\n' }) {
			if line = strings.TrimSpace(line); len(line) >= minLine {
				out = append(out, line)
			}
		}
	}
	return out
}

func percent(s, safe string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("_.-~", c) >= 0 || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// Mask replaces every known secret in s. Secrets that overlap are replaced together.
func (m *Masker) Mask(s string) string {
	ix := m.index.Load()
	if ix == nil {
		return s
	}
	spans := ix.find(s, len(s))
	if len(spans) == 0 {
		return s
	}
	return string(replace(nil, s, spans))
}

// Error returns err with its text masked; errors.Is and As still see through it.
func (m *Masker) Error(err error) error {
	if err == nil {
		return nil
	}
	text := m.Mask(err.Error())
	if text == err.Error() {
		return err
	}
	return &maskedError{text, err}
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.err }
