package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gustflow/gust/internal/config"
)

// FromConfig reads how people sign in from the configuration: [api], [api_auth],
// [oidc] and [gust] trusted_proxies. Store, Now and Log are left to the caller.
func FromConfig(cfg *config.Config) (Options, error) {
	o := Options{
		BaseURL: cfg.API.BaseURL, Issuer: cfg.APIAuth.JWTIssuer, Audience: cfg.APIAuth.JWTAudience, TokenLife: cfg.APIAuth.JWTExpirationTime,
		CLITokenLife: cfg.APIAuth.JWTCLIExpirationTime, Leeway: cfg.APIAuth.JWTLeeway, InstanceName: cfg.API.InstanceName,
	}
	var problems []error
	for _, text := range cfg.Gust.TrustedProxies {
		p, err := parsePrefix(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("[gust] trusted_proxies: %q: expected an address or a network such as 10.0.0.0/8", text))
		}
		o.TrustedProxies = append(o.TrustedProxies, p)
	}
	if cfg.OIDC.Issuer != "" {
		oidc, err := oidcOptions(cfg.OIDC)
		problems = append(problems, err)
		o.OIDC = oidc
	}
	return o, errors.Join(problems...)
}

func oidcOptions(cfg config.OIDC) (*OIDCOptions, error) {
	o := &OIDCOptions{
		Issuer: cfg.Issuer, Name: cfg.Name, ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, Scopes: cfg.Scopes,
		UsernameClaim: cfg.UsernameClaim, GroupsClaim: cfg.GroupsClaim, DefaultRole: Role(cfg.DefaultRole), Roles: map[string]Role{},
	}
	if cfg.RoleMapping == "" {
		return o, nil
	}
	var mapping map[string]string
	if err := json.Unmarshal([]byte(cfg.RoleMapping), &mapping); err != nil {
		return nil, errors.New(`[oidc] role_mapping: expected a JSON object from groups to roles, such as {"data-platform": "Admin"}`)
	}
	var problems []error
	for group, text := range mapping {
		r, err := ParseRole(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("[oidc] role_mapping: group %q: %w", group, err))
		}
		o.Roles[group] = r
	}
	return o, errors.Join(problems...)
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return a.Prefix(a.BitLen())
}
