package secretsbackend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// Class paths of [secrets] backend that can be used.
const (
	SecretsManager = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
	ParameterStore = "airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend"
)

// Classes lists them.
func Classes() []string { return []string{SecretsManager, ParameterStore} }

// Naming says how secrets are called and written.
type Naming struct {
	Connections, Variables Kind
	// Sep stands between prefix and id.
	Sep string
	// words are the names of fields in JSON connections, by the field they are for;
	// nil leaves JSON as it is.
	words map[string][]string
	// unquote is are_secret_values_urlencoded.
	unquote bool
}

// Kind is one kind of secret.
type Kind struct {
	// Off says that the backend is not asked for this kind.
	Off    bool
	Prefix string
	// slash puts a slash before the name, as parameters need one.
	slash bool
	// pattern must match the beginning of an id; nil matches all.
	pattern *regexp.Regexp
}

func (k Kind) asks(id string) bool {
	return !k.Off && id != "" && (k.pattern == nil || k.pattern.MatchString(id))
}

func (k Kind) name(sep, id string) string {
	name := id
	if k.Prefix != "" || k.slash {
		name = k.Prefix + sep + id
	}
	if k.slash && !strings.HasPrefix(name, "/") {
		name = "/" + name
	}
	return name
}

// Client is how the AWS client is made; empty fields are those of the environment.
type Client struct {
	Region, Endpoint, Profile, RoleARN         string
	AccessKeyID, SecretAccessKey, SessionToken string
}

// String leaves the credentials out.
func (c Client) String() string {
	return fmt.Sprintf("region=%q endpoint=%q profile=%q role=%q", c.Region, c.Endpoint, c.Profile, c.RoleARN)
}

// Format implements fmt.Formatter: every verb prints String.
func (c Client) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }

// arguments of both classes, beside those of the client.
var (
	kinds      = []string{"connections", "variables", "config"}
	clientArgs = []string{"region_name", "endpoint_url", "profile_name", "role_arn", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
	// ignored have no meaning here: the SDK verifies, and chooses its own protocol.
	ignored = []string{"api_version", "use_ssl", "verify", "full_url_mode"}
)

// connWords are the names of JSON fields that Secrets Manager connections may use.
var connWords = map[string][]string{
	"login": {"login", "user", "username", "user_name"}, "password": {"password", "pass", "key"}, "host": {"host", "remote_host", "server"},
	"port": {"port"}, "schema": {"database", "schema"}, "conn_type": {"conn_type", "conn_id", "connection_type", "engine"}, "extra": {"extra"},
}

// Parse reads [secrets] backend and backend_kwargs. It returns every problem at
// once, as *airflow.InvalidError that names arguments, never their values.
func Parse(class, kwargs string) (Naming, Client, error) {
	p := parser{args: map[string]json.RawMessage{}}
	if class != SecretsManager && class != ParameterStore {
		p.bad("backend", "%q cannot be used: expected one of %s", class, strings.Join(Classes(), ", "))
		return Naming{}, Client{}, p.err()
	}
	if strings.TrimSpace(kwargs) != "" {
		if err := json.Unmarshal([]byte(kwargs), &p.args); err != nil {
			p.bad("backend_kwargs", "expected a JSON object")
			return Naming{}, Client{}, p.err()
		}
	}
	manager := class == SecretsManager
	n := Naming{Sep: "/"}
	if manager {
		if sep, given := p.text("sep"); given {
			n.Sep = sep
		}
		n.words = p.words()
		n.unquote = p.flag("are_secret_values_urlencoded")
	}
	for _, kind := range kinds {
		k := Kind{Prefix: "airflow/" + kind, slash: !manager}
		if !manager {
			k.Prefix = "/" + k.Prefix
		}
		name := kind + "_prefix"
		if p.null(name) {
			k.Off = true
		} else if prefix, given := p.text(name); given {
			k.Prefix = prefix
		}
		if n.Sep != "" {
			k.Prefix = strings.TrimRight(k.Prefix, n.Sep)
		}
		k.pattern = p.pattern(kind + "_lookup_pattern")
		switch kind {
		case "connections":
			n.Connections = k
		case "variables":
			n.Variables = k
		}
	}
	var c Client
	for i, dst := range []*string{&c.Region, &c.Endpoint, &c.Profile, &c.RoleARN, &c.AccessKeyID, &c.SecretAccessKey, &c.SessionToken} {
		*dst, _ = p.text(clientArgs[i])
	}
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
		p.bad("backend_kwargs", "aws_access_key_id and aws_secret_access_key belong together")
	}
	for _, name := range ignored {
		delete(p.args, name)
	}
	for _, name := range slices.Sorted(maps.Keys(p.args)) {
		if string(p.args[name]) == "null" {
			continue
		}
		known := slices.Concat(clientArgs, ignored)
		for _, kind := range kinds {
			known = append(known, kind+"_prefix", kind+"_lookup_pattern")
		}
		if manager {
			known = append(known, "sep", "extra_conn_words", "are_secret_values_urlencoded")
		}
		slices.Sort(known)
		p.bad("backend_kwargs", "%s is not an argument of this backend: expected some of %s", name, strings.Join(known, ", "))
	}
	return n, c, p.err()
}

type parser struct {
	args     map[string]json.RawMessage
	problems []airflow.Problem
}

func (p *parser) bad(field, format string, args ...any) {
	p.problems = append(p.problems, airflow.Problem{Field: "[secrets] " + field, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) err() error {
	if len(p.problems) == 0 {
		return nil
	}
	return &airflow.InvalidError{Problems: p.problems}
}

// null reports whether an argument is given as null, and takes it.
func (p *parser) null(name string) bool {
	if string(p.args[name]) != "null" {
		return false
	}
	delete(p.args, name)
	return true
}

// take decodes an argument and reports whether it was given with a value.
func (p *parser) take(name string, dst any, want string) bool {
	raw, ok := p.args[name]
	delete(p.args, name)
	if !ok || string(raw) == "null" {
		return false
	}
	if json.Unmarshal(raw, dst) != nil {
		p.bad("backend_kwargs", "%s: expected %s", name, want)
		return false
	}
	return true
}

func (p *parser) text(name string) (s string, given bool) {
	given = p.take(name, &s, "a text")
	return s, given
}

func (p *parser) flag(name string) (b bool) {
	p.take(name, &b, "true or false")
	return b
}

func (p *parser) pattern(name string) *regexp.Regexp {
	s, given := p.text(name)
	if !given || s == "" {
		return nil
	}
	re, err := regexp.Compile("(?i)^(?:" + s + ")")
	if err != nil {
		p.bad("backend_kwargs", "%s: %q is not a regular expression that can be used (RE2 has no look-around and no references): %v", name, s, err)
	}
	return re
}

func (p *parser) words() map[string][]string {
	out := maps.Clone(connWords)
	var extra map[string][]string
	if !p.take("extra_conn_words", &extra, "an object of lists of words") {
		return out
	}
	for _, field := range slices.Sorted(maps.Keys(extra)) {
		target := field
		if field == "user" {
			target = "login"
		}
		if _, ok := out[target]; !ok {
			p.bad("backend_kwargs", "extra_conn_words: %s is not a field of connections: expected some of user, password, host, schema, conn_type, port, extra", field)
			continue
		}
		out[target] = append(slices.Clone(out[target]), extra[field]...)
	}
	return out
}

// connectionText gives a JSON connection of Secrets Manager the field names of
// connections; other texts stay.
func (n Naming) connectionText(text string) (string, error) {
	if n.words == nil || !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return text, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if _, err := dec.Token(); err != nil {
		return "", err
	}
	// The first field that has one of the words counts; of a name that comes twice,
	// the last value.
	var order []string
	values := map[string]json.RawMessage{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", err
		}
		name, _ := key.(string)
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return "", err
		}
		if _, twice := values[name]; !twice {
			order = append(order, name)
		}
		values[name] = v
	}
	if _, err := dec.Token(); err != nil {
		return "", err
	}
	out := map[string]json.RawMessage{}
	for field, words := range n.words {
		for _, name := range order {
			if slices.Contains(words, name) {
				out[field] = n.unescape(field, values[name])
				break
			}
		}
	}
	b, err := json.Marshal(out)
	return string(b), err
}

// unescape undoes URL encoding of texts where the backend is told to.
func (n Naming) unescape(field string, v json.RawMessage) json.RawMessage {
	var s string
	if !n.unquote || field == "extra" && bytes.HasPrefix(bytes.TrimSpace(v), []byte("{")) || json.Unmarshal(v, &s) != nil {
		return v
	}
	b, err := json.Marshal(percentDecode(s))
	if err != nil {
		return v
	}
	return b
}

// percentDecode replaces %XX; what is no escape stays.
func percentDecode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
