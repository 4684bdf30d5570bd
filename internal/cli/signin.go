package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/config"
)

// authOptions reads how people sign in from the configuration.
func authOptions(cfg *config.Config) (auth.Options, error) {
	o := auth.Options{
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
