package connection

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// extraKey is the query parameter that carries the whole extra as JSON.
const extraKey = "__extra__"

// NormalizeType returns a connection type as Airflow stores it.
func NormalizeType(t string) string {
	if t == "postgresql" {
		return "postgres"
	}
	return strings.ReplaceAll(t, "-", "_")
}

// ParseURI reads a connection URI.
func ParseURI(connID, uri string) (airflow.Connection, error) {
	c := airflow.Connection{ConnID: connID}
	bad := func(format string, args ...any) (airflow.Connection, error) {
		return airflow.Connection{}, fmt.Errorf("the URI of connection %q is not valid: %w (expected type://login:password@host:port/schema?key=value, each part percent-encoded)",
			connID, fmt.Errorf(format, args...))
	}
	uri = strings.TrimLeft(uri, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
	uri = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(uri)
	scheme, rest, ok := cutScheme(uri)
	if !ok {
		return bad("it has no type before \"://\"")
	}
	c.ConnType = NormalizeType(strings.ToLower(scheme))
	protocol, inner, ok := cutScheme(rest)
	if ok {
		rest = inner
		if _, _, more := cutScheme(rest); more {
			return bad("it has more than two \"://\"")
		}
	}
	u, err := splitURL(rest)
	if err != nil {
		return bad("%w", err)
	}
	if strings.HasSuffix(u.netloc, ":") && strings.HasPrefix(u.path, "//") {
		return bad("the protocol of the host must come before the login: type://protocol://login:password@host")
	}
	host, err := u.host()
	if err != nil {
		return bad("%w", err)
	}
	c.Host = host
	if ok && host != "" {
		c.Host = strings.ToLower(protocol) + "://" + host
	}
	login, password := u.userinfo()
	c.Login, c.Password = unquote(login), unquote(password)
	if c.Port, err = u.port(); err != nil {
		return bad("%w", err)
	}
	if u.path != "" {
		c.Schema = unquote(u.path[1:])
	}
	if u.query != "" {
		q := parseQuery(u.query)
		if v, ok := q.get(extraKey); ok {
			c.Extra = v
		} else {
			c.Extra = q.json()
		}
	}
	if err := CheckExtra(connID, c.Extra); err != nil {
		return airflow.Connection{}, err
	}
	return c, nil
}

// URI returns the connection in Airflow's URI form, which ParseURI reads back.
// It contains the password.
func URI(c airflow.Connection) string {
	var b strings.Builder
	if c.ConnType != "" {
		b.WriteString(strings.ReplaceAll(strings.ToLower(c.ConnType), "_", "-"))
		b.WriteByte(':')
	}
	b.WriteString("//")
	host := c.Host
	if protocol, h, ok := cutScheme(c.Host); ok {
		b.WriteString(protocol + "://")
		host = h
	}
	authority := quote(c.Login)
	if c.Password != "" {
		authority += ":" + quote(c.Password)
	}
	if authority != "" {
		b.WriteString(authority + "@")
	}
	b.WriteString(quote(host))
	if c.Port != 0 {
		if host == "" && authority == "" {
			b.WriteByte('@')
		}
		b.WriteString(":" + strconv.Itoa(c.Port))
	}
	if c.Schema != "" {
		b.WriteString("/" + quote(c.Schema))
	}
	if c.Extra != "" {
		if c.Schema == "" {
			b.WriteByte('/')
		}
		b.WriteByte('?')
		b.WriteString(extraQuery(c.Extra))
	}
	return b.String()
}

// extraQuery writes an extra of texts as key=value pairs, any other as __extra__.
func extraQuery(extra string) string {
	fields, err := objectFields(extra)
	flat := err == nil && len(fields) > 0
	var b strings.Builder
	for i, f := range fields {
		text, isText := f.value.(string)
		if !isText || f.key == extraKey {
			flat = false
			break
		}
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(quotePlus(f.key) + "=" + quotePlus(text))
	}
	if !flat {
		return extraKey + "=" + quotePlus(extra)
	}
	return b.String()
}

// cutScheme splits "scheme://rest".
func cutScheme(s string) (scheme, rest string, ok bool) {
	i := strings.Index(s, "://")
	if i <= 0 {
		return "", s, false
	}
	for j := 0; j < i; j++ {
		c := s[j]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		// The underscore is outside RFC 3986 but in types people write.
		if !letter && (j == 0 || !('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.' || c == '_')) {
			return "", s, false
		}
	}
	return s[:i], s[i+3:], true
}

// urlParts is what follows "://", split the way Python's urlsplit does.
type urlParts struct{ netloc, path, query string }

func splitURL(s string) (urlParts, error) {
	var u urlParts
	end := strings.IndexAny(s, "/?#")
	if end < 0 {
		end = len(s)
	}
	u.netloc, s = s[:end], s[end:]
	if strings.Contains(u.netloc, "[") != strings.Contains(u.netloc, "]") {
		return u, errors.New("a bracket of the IPv6 host is missing")
	}
	s, _, _ = strings.Cut(s, "#")
	u.path, u.query, _ = strings.Cut(s, "?")
	return u, nil
}

func (u urlParts) userinfo() (login, password string) {
	i := strings.LastIndexByte(u.netloc, '@')
	if i < 0 {
		return "", ""
	}
	login, password, _ = strings.Cut(u.netloc[:i], ":")
	return login, password
}

// hostPort returns the raw host, without brackets, and the raw port.
func (u urlParts) hostPort() (host, port string) {
	s := u.netloc[strings.LastIndexByte(u.netloc, '@')+1:]
	if _, bracketed, ok := strings.Cut(s, "["); ok {
		host, s, _ = strings.Cut(bracketed, "]")
		_, port, _ = strings.Cut(s, ":")
		return host, port
	}
	host, port, _ = strings.Cut(s, ":")
	return host, port
}

// host returns the decoded host. Host names are lower-cased up to the first
// percent sign (Python takes the rest for an IPv6 zone); a path, such as that of
// a Unix socket, is kept as it is.
func (u urlParts) host() (string, error) {
	raw, _ := u.hostPort()
	name, zone, has := strings.Cut(raw, "%")
	lower := strings.ToLower(name)
	if has {
		lower += "%" + zone
	}
	host := unquote(lower)
	if strings.Contains(host, "/") {
		host = unquote(raw)
	}
	return host, nil
}

func (u urlParts) port() (int, error) {
	_, p := u.hostPort()
	if p == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(p)
	if err != nil || n < 0 || n > 65535 || p[0] == '+' || p[0] == '-' {
		return 0, errors.New("its port is not a number from 0 to 65535 (a \"/\" or \":\" in a password or host must be written %2F or %3A)")
	}
	return n, nil
}

// query is a parsed query string: keys in order of first appearance, the last
// value of each.
type query struct {
	keys   []string
	values map[string]string
}

func parseQuery(s string) query {
	q := query{values: map[string]string{}}
	for _, pair := range strings.Split(s, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		k, v = unquote(strings.ReplaceAll(k, "+", " ")), unquote(strings.ReplaceAll(v, "+", " "))
		if _, ok := q.values[k]; !ok {
			q.keys = append(q.keys, k)
		}
		q.values[k] = v
	}
	return q
}

func (q query) get(key string) (string, bool) { v, ok := q.values[key]; return v, ok }

func (q query) json() string {
	fields := make([]field, len(q.keys))
	for i, k := range q.keys {
		fields[i] = field{k, q.values[k]}
	}
	return dumps(fields)
}

const upperHex = "0123456789ABCDEF"

// quote percent-encodes every byte but letters, digits and "_.-~".
func quote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-' || c == '~' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

func quotePlus(s string) string { return strings.ReplaceAll(quote(s), "%20", "+") }

// unquote decodes percent escapes; malformed ones stay, bytes that are no UTF-8
// become U+FFFD, as in Python.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// MaskURI replaces the login and password of a URI by ***.
func MaskURI(uri string) string {
	i := strings.Index(uri, "://")
	if i < 0 {
		return "***"
	}
	start := i + 3
	if _, rest, ok := cutScheme(uri[start:]); ok {
		start = len(uri) - len(rest)
	}
	end := start + strings.IndexAny(uri[start:]+"/", "/?#")
	at := strings.LastIndexByte(uri[start:end], '@')
	if at > 0 {
		uri = uri[:start] + "***:***" + uri[start+at:]
	}
	return uri
}
