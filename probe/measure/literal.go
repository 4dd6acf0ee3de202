package measure

import (
	"fmt"
	"go/format"
	"math"
	"net/url"
	"strings"
	"time"
)

// SecretEnv is the environment variable from which the settings of [Report.Literal] read the
// client's secret.
const SecretEnv = "AUTHTRIP_CLIENT_SECRET"

// Literal returns Go statements with the settings that fit what was found, each with its reason.
// They declare provider, client, src and api, and need the imports net/http, os, time, authtrip
// and login, as far as they occur.
func (r *Report) Literal() string {
	var b strings.Builder
	fmt.Fprintf(&b, "provider := &login.Provider{Issuer: %q}\n", r.Issuer)
	r.writeClient(&b)
	if r.Login == "client_credentials" {
		r.writeOwn(&b)
	} else {
		r.writeSource(&b)
	}
	r.writeTransport(&b)
	text, err := format.Source([]byte(b.String()))
	if err != nil {
		return b.String() // as it is: a test has all kinds formatted
	}
	return string(text)
}

func (r *Report) writeClient(b *strings.Builder) {
	b.WriteString("client := &login.Client{\n")
	field(b, "Provider", "provider", "")
	field(b, "ID", fmt.Sprintf("%q", r.ClientID), "")
	if r.secret {
		field(b, "Secret", fmt.Sprintf("os.Getenv(%q)", SecretEnv), "")
	}
	if r.Client.Works != "" {
		field(b, "AuthMethod", fmt.Sprintf("%q", r.Client.Works), r.methodReason())
	}
	if r.Client.RawBasic {
		field(b, "RawBasic", "true", "form-encoded, as RFC 6749 has it, the secret was rejected")
	}
	if r.Login != "client_credentials" {
		field(b, "Scopes", list(r.Scopes), r.scopeReason())
	}
	if len(r.resources) > 0 {
		field(b, "Resources", list(r.resources), "")
	}
	if r.Request.Pushed == Yes {
		field(b, "PushRequests", "true", "the server takes pushed requests: nothing of them is in the browser")
	}
	if skew := r.skew(); skew > 0 {
		field(b, "ClockSkew", duration(skew), fmt.Sprintf("the server's clock was %+.0f s from the local clock", float64(r.ahead())))
	}
	b.WriteString("}\n")
	if r.prompt != "" {
		fmt.Fprintf(b, "// Each login was asked for with &login.AuthRequest{Prompt: %q}.\n", r.prompt)
	}
}

func (r *Report) methodReason() string {
	var others []string
	for _, m := range r.Client.Methods {
		if m.Works == No && m.Method != (method{authBasic, true}).String() {
			others = append(others, m.Method+" was rejected ("+m.Reply+")")
		}
	}
	return strings.Join(append([]string{"it works"}, others...), "; ")
}

func (r *Report) scopeReason() string {
	switch {
	case r.Tokens.RefreshToken == No:
		return "no refresh token came: add offline_access, or what your server wants for one"
	case len(r.Tokens.Scopes) > 0:
		return "granted: " + strings.Join(r.Tokens.Scopes, " ")
	}
	return ""
}

// ahead is how far the issuer's clock is ahead.
func (r *Report) ahead() Seconds {
	u, err := url.Parse(r.Issuer)
	for _, c := range r.Clocks {
		if err == nil && c.Host == u.Host {
			return c.Ahead
		}
	}
	return 0
}

// skew is a ClockSkew that allows for the difference and half a minute, 0 if the usual one does.
func (r *Report) skew() time.Duration {
	off := r.ahead().Duration().Abs()
	if off <= 30*time.Second {
		return 0
	}
	return (off + 30*time.Second).Round(10 * time.Second)
}

func (r *Report) writeSource(b *strings.Builder) {
	b.WriteString("src := &authtrip.Source{\n")
	field(b, "Refresher", "client.RefreshToken()", "")
	if value, reason := r.grace(); value != "" {
		field(b, "GracePeriod", value, reason)
	}
	if r.Refresh.LoginEndsOthers == Yes {
		b.WriteString("\t// A further login of the same user ends the session before: one Key for each user, and no login on the side.\n")
	}
	b.WriteString("\t// Store and Key keep the session between processes; the result of a login goes into src.SetToken.\n")
	switch f := r.Refresh; {
	case f.OldAccessDies == Yes:
		b.WriteString("\t// A refresh ends the access token before: other replicas meet one 401 each, and load the new one.\n")
	case f.Works == No:
		b.WriteString("\t// The refresh failed: when the access token has expired, the user has to log in again.\n")
	}
	b.WriteString("}\n")
}

// grace is the GracePeriod that fits, and why.
func (r *Report) grace() (value, reason string) {
	f := r.Refresh
	switch {
	case f.Rotates == No:
		return "authtrip.GraceForever", "a refresh token can be used many times"
	case f.Grace == No && f.ReuseEndsSession == No:
		return "authtrip.GraceForever", "a used refresh token is rejected at once, and that ends nothing: trying costs nothing"
	case f.Grace == No:
		return "-1", "a used refresh token is rejected at once" + r.cost() + ": it is not sent again"
	case f.Grace != Yes:
		return "", ""
	}
	whole := math.Floor(float64(f.AcceptedAfter) * 0.9)
	switch {
	case whole < 1:
		return "-1", fmt.Sprintf("a used refresh token is accepted for less than %s s%s", tenths(max(f.RefusedAfter, 2)), r.cost())
	case f.RefusedAfter > 0:
		return duration(time.Duration(whole) * time.Second), "a used refresh token was " + f.window() + r.cost()
	}
	return duration(time.Duration(whole) * time.Second), "a used refresh token was " + f.window() + ": it may be more"
}

// cost says what a rejected reuse does.
func (r *Report) cost() string {
	switch f := r.Refresh; {
	case f.ReuseEndsSession == Yes && f.ReuseEndsAccess == Yes:
		return ", which ends the session and its access tokens"
	case f.ReuseEndsSession == Yes:
		return ", which ends the session"
	}
	return ""
}

func (r *Report) writeOwn(b *strings.Builder) {
	request := "nil"
	if len(r.Scopes) > 0 {
		request = "&login.TokenRequest{Scopes: " + list(r.Scopes) + "}"
	}
	b.WriteString("src := &authtrip.Source{\n")
	field(b, "Refresher", "client.ClientCredentials("+request+")", "")
	if r.Tokens.AccessSeconds > 0 {
		fmt.Fprintf(b, "\t// A token expires after %s, and is refreshed before.\n", life(r.Tokens.AccessSeconds))
	}
	if r.Refresh.OldAccessDies == Yes {
		b.WriteString("\t// Only the newest token is accepted: replicas need a Store and a Key in common.\n")
	}
	b.WriteString("}\n")
}

func (r *Report) writeTransport(b *strings.Builder) {
	b.WriteString("api := &http.Client{Transport: &authtrip.Transport{\n")
	field(b, "Source", "src", "")
	at := ""
	if r.API != nil {
		if u, err := url.Parse(r.API.URL); err == nil {
			at = u.Scheme + "://" + u.Host
		}
	}
	if at != "" {
		field(b, "Origins", list([]string{at}), "the token goes to no other")
	} else {
		b.WriteString("\t// Origins: name the APIs here, and the token goes to no other place.\n")
	}
	for _, line := range r.apiAdvice() {
		b.WriteString("\t// " + line + "\n")
	}
	b.WriteString("}}\n")
}

// apiAdvice is what no setting can do.
func (r *Report) apiAdvice() (lines []string) {
	a := r.API
	if a == nil {
		return nil
	}
	if a.Blind {
		lines = append(lines, "The API answers a made-up token with the status of a good one: look into its answers, and use authtrip.Retry.")
	}
	for _, reply := range []struct {
		kind  string
		reply *Reply
	}{{"an expired token", a.Expired}, {"a revoked token", a.Revoked}, {"a made-up token", a.MadeUp}} {
		if reply.reply != nil && reply.reply.Status == 403 {
			lines = append(lines, "The API answers "+reply.kind+" with 403, which leads to no refresh: use authtrip.Retry, or see Source.Invalidate.")
			break
		}
	}
	return lines
}

// field writes one field, with its reason behind it.
func field(b *strings.Builder, name, value, reason string) {
	if reason != "" {
		reason = " // " + strings.Join(strings.Fields(reason), " ")
	}
	fmt.Fprintf(b, "\t%s: %s,%s\n", name, value, reason)
}

func list(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	return "[]string{" + strings.Join(quoted, ", ") + "}"
}

func duration(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d * time.Minute", int(d.Minutes()))
	}
	return fmt.Sprintf("%d * time.Second", int(d.Seconds()))
}
