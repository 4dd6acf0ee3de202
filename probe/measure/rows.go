package measure

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// A Row is one line of the table: what was asked, and what was found. Name is one of a fixed set.
type Row struct{ Name, Found string }

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.Rows() {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", row.Name, row.Found)
	}
	for i, n := range r.NotFound {
		name := ""
		if i == 0 {
			name = "not found out"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s: %s\n", name, n.What, n.Why)
	}
	_, _ = fmt.Fprintf(t, "asked\t%d requests, %d logins, %.0f seconds beside the user's\n", r.Requests, r.Logins, r.Seconds)
	return t.Flush()
}

// Rows returns the table without what was not found out.
func (r *Report) Rows() []Row {
	var rows table
	rows.add("issuer", r.Issuer)
	rows.add("tokens by", r.Login)
	for _, p := range r.Metadata.Broken {
		rows.add("promised, not kept", p.Member+": "+p.Found)
	}
	for _, p := range r.Metadata.Silent {
		rows.add("works, not listed", p.Member+": "+p.Found)
	}
	rows.add("promised, not tried", strings.Join(r.Metadata.Untried, ", "))
	rows.add("own metadata", strings.Join(r.Metadata.Own, ", "))
	r.clientRows(&rows)
	r.tokenRows(&rows)
	r.refreshRows(&rows)
	r.placeRows(&rows)
	for _, c := range r.Clocks {
		rows.add("clock", fmt.Sprintf("%s is %+.1f s (± %.1f s) from the local clock", c.Host, float64(c.Ahead), float64(c.Within)))
	}
	for _, l := range r.RateLimits {
		rows.add("rate limit", l.Host+" says "+l.Header+": "+l.Value)
	}
	return rows
}

// A table is rows, of which a name that repeats itself is written once.
type table []Row

func (t *table) add(name, found string) {
	if found != "" {
		*t = append(*t, Row{name, found})
	}
}

func (t *table) answer(name string, a Answer, yes, no string) {
	switch a {
	case Yes:
		t.add(name, cmp.Or(yes, "yes"))
	case No:
		t.add(name, cmp.Or(no, "no"))
	}
}

func (r *Report) clientRows(t *table) {
	for _, m := range r.Client.Methods {
		t.answer("client authentication", m.Works, m.Method+": works ("+m.Reply+")", m.Method+": rejected ("+m.Reply+")")
	}
	t.answer("wrong secret", r.Client.Checked, "rejected", "not told from the right one by the token endpoint")
	t.answer("PKCE", r.Request.PKCE, "checked: a wrong verifier is rejected", "not checked: a wrong verifier is accepted")
	t.answer("pushed requests (PAR)", r.Request.Pushed, "work", "do not work")
	t.answer("iss in the response", r.Request.Iss, "", "")
	t.add("own response parameters", strings.Join(r.Request.Own, ", "))
}

func (r *Report) tokenRows(t *table) {
	switch k := r.Tokens; {
	case k.AccessSeconds > 0:
		t.add("access token", "expires after "+life(k.AccessSeconds))
	case k.NoExpiry:
		t.add("access token", "the server does not say when it expires")
	}
	t.answer("refresh token", r.Tokens.RefreshToken, "there is one", "there is none")
	if s := r.Tokens.RefreshSeconds; s > 0 {
		t.add("refresh token", "expires after "+life(s))
	}
	if s := r.Tokens.IDTokenSeconds; s > 0 {
		t.add("ID token", "expires after "+life(s))
	}
	t.add("scopes granted", strings.Join(r.Tokens.Scopes, " "))
	t.answer("token response", r.Tokens.NoStore, "Cache-Control: no-store", "may be cached: there is no Cache-Control: no-store")
	t.add("own token members", strings.Join(r.Tokens.Own, ", "))
	t.answer("client credentials", r.Tokens.Steady, "the same token twice", "a new token each time")
}

func life(s Seconds) string {
	d := s.Duration().Round(time.Second)
	switch {
	case d%(24*time.Hour) == 0 && d > 24*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

func (r *Report) refreshRows(t *table) {
	f := r.Refresh
	t.answer("refresh", f.Works, "works", "does not work")
	t.answer("rotation", f.Rotates, "each refresh gives another refresh token", "the refresh token stays")
	t.answer("old access token", f.OldAccessDies, "rejected after a refresh", "still accepted after a refresh")
	t.add("used refresh token", f.window())
	t.answer("accepted again, it gives", f.SameSuccessor, "the same successor", "another successor")
	t.answer("one used twice ago", f.Ancestors, "accepted, too", "rejected")
	t.add("rejected reuse", f.ReuseReply)
	t.answer("after rejected reuse, the session", f.ReuseEndsSession, "has ended", "goes on")
	t.answer("after rejected reuse, access tokens", f.ReuseEndsAccess, "are rejected", "are still accepted")
	t.answer("another login of the user", f.LoginEndsOthers, "ends the sessions before", "leaves the sessions before")
	v := r.Revoke
	t.answer("revocation", v.Works, "works", "does not work")
	t.answer("revoked refresh token", v.EndsSession, "rejected", "still accepted")
	t.answer("its access token", v.EndsAccess, "rejected with it", "still accepted")
	t.answer("revoked access token", v.AccessAlone, "rejected", "still accepted")
}

// window says how long a used refresh token is accepted.
func (f RefreshFacts) window() string {
	switch {
	case f.Grace == No:
		return "rejected at once"
	case f.Grace != Yes:
		return ""
	case f.RefusedAfter > 0:
		return fmt.Sprintf("accepted after %s s, rejected after %s s", tenths(f.AcceptedAfter), tenths(f.RefusedAfter))
	}
	return fmt.Sprintf("accepted after %s s, and not tried later", tenths(f.AcceptedAfter))
}

func tenths(s Seconds) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(s)), ".0") }

func (r *Report) placeRows(t *table) {
	for _, p := range []struct {
		name string
		said *Replies
	}{{"API", r.API}, {"user info", r.UserInfoReplies}} {
		if p.said == nil {
			continue
		}
		for _, reply := range []struct {
			kind  string
			reply *Reply
		}{
			{"a good token", p.said.Good},
			{"no token", p.said.None},
			{"a made-up token", p.said.MadeUp},
			{"an expired token", p.said.Expired},
			{"a revoked token", p.said.Revoked},
		} {
			t.add(p.name+" to "+reply.kind, reply.reply.String())
		}
		if late := p.said.AcceptedLate; late > 0 {
			t.add(p.name, "accepts a token "+tenths(late)+" s after its expiry")
		}
		if p.said.Blind {
			t.add(p.name, "its status does not tell a good token from a made-up one: look into the body")
		}
	}
	u := r.UserInfo
	t.add("user info", u.Kind)
	t.answer("sub of user info", u.SubFits, "that of the ID token", "not that of the ID token")
	t.add("user info members", strings.Join(u.Members, ", "))
	t.add("own user info members", strings.Join(u.Own, ", "))
	t.add("user info fails", u.Error)
}

// MarkdownRow returns the report as a row of the table of what was measured, in docs/providers.md.
func (r *Report) MarkdownRow(server string) string {
	var methods []string
	for _, m := range r.Client.Methods {
		if m.Works == Yes {
			methods = append(methods, strings.TrimPrefix(m.Method, "client_secret_"))
		}
	}
	f := r.Refresh
	used := map[Answer]string{Yes: "accepted for " + f.bracket(), No: "rejected at once", "": "–"}[f.Grace]
	if f.Rotates == No {
		used = "accepted"
	}
	ends := map[Answer]string{Yes: "the session", No: "nothing", "": "–"}[f.ReuseEndsSession]
	if f.ReuseEndsAccess == Yes {
		ends += " and its access tokens"
	}
	set, _ := r.grace()
	if set == "" {
		set = "–"
	} else {
		set = "`" + strings.TrimPrefix(set, "authtrip.") + "`"
	}
	cells := []string{
		server, strings.Join(methods, ", "), word(r.Request.PKCE, "yes", "no"), word(f.Rotates, "yes", "no"), used, ends,
		word(f.OldAccessDies, "rejected", "accepted"), word(r.Revoke.EndsAccess, "rejected", "accepted"), set,
	}
	return "| " + strings.Join(cells, " | ") + " |"
}

func word(a Answer, yes, no string) string { return map[Answer]string{Yes: yes, No: no, "": "–"}[a] }

// bracket is where the end of the grace period is, in whole seconds.
func (f RefreshFacts) bracket() string {
	if f.RefusedAfter == 0 {
		return fmt.Sprintf("more than %.0f s", float64(f.AcceptedAfter))
	}
	return fmt.Sprintf("%.0f to %.0f s", math.Floor(float64(f.AcceptedAfter)), math.Ceil(float64(f.RefusedAfter)-0.5))
}
