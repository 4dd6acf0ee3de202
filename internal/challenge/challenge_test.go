package challenge

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// served are fields of the form that servers send, with values made up or shortened.
var served = []struct {
	name  string
	lines []string
	want  []Challenge
}{
	{
		name:  "github api",
		lines: []string{`Basic realm="GitHub"`},
		want:  []Challenge{{Scheme: "Basic", Params: []Param{{"realm", "GitHub"}}}},
	},
	{
		name:  "google",
		lines: []string{`Bearer realm="https://accounts.google.com/", error="invalid_token"`},
		want:  []Challenge{{Scheme: "Bearer", Params: []Param{{"realm", "https://accounts.google.com/"}, {"error", "invalid_token"}}}},
	},
	{
		name:  "entra claims challenge",
		lines: []string{`Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ=="`},
		want: []Challenge{{Scheme: "Bearer", Params: []Param{
			{"realm", ""},
			{"authorization_uri", "https://login.microsoftonline.com/common/oauth2/authorize"},
			{"client_id", "00000003-0000-0000-c000-000000000000"},
			{"error", "insufficient_claims"},
			{"claims", "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ=="},
		}}},
	},
	{
		name:  "azure storage leaves the grammar",
		lines: []string{`Bearer authorization_uri=https://login.microsoftonline.com/t/oauth2/authorize resource_id=https://storage.azure.com`},
		want:  []Challenge{{Scheme: "Bearer"}},
	},
	{
		// The form in its developer guide, "Troubleshooting issues with HTTP API JWT authorizers".
		name:  "aws api gateway leaves the grammar",
		lines: []string{`Bearer scope="" error="invalid_token" error_description="the token does not have a valid audience"`},
		want:  []Challenge{{Scheme: "Bearer"}},
	},
	{
		name:  "aws ecr",
		lines: []string{`Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"`},
		want:  []Challenge{{Scheme: "Basic", Params: []Param{{"realm", "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/"}, {"service", "ecr.amazonaws.com"}}}},
	},
	{
		name:  "keycloak",
		lines: []string{`Bearer realm="demo", error="invalid_token", error_description="Token verification failed"`},
		want:  []Challenge{{Scheme: "Bearer", Params: []Param{{"realm", "demo"}, {"error", "invalid_token"}, {"error_description", "Token verification failed"}}}},
	},
	{
		name:  "mcp protected resource",
		lines: []string{`Bearer resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource", scope="files:read files:write"`},
		want:  []Challenge{{Scheme: "Bearer", Params: []Param{{"resource_metadata", "https://mcp.example.com/.well-known/oauth-protected-resource"}, {"scope", "files:read files:write"}}}},
	},
	{
		name:  "step up, RFC 9470",
		lines: []string{`Bearer error="insufficient_user_authentication", error_description="A different authentication level is required", acr_values="myACR", max_age=5`},
		want: []Challenge{{Scheme: "Bearer", Params: []Param{
			{"error", "insufficient_user_authentication"},
			{"error_description", "A different authentication level is required"},
			{"acr_values", "myACR"},
			{"max_age", "5"},
		}}},
	},
	{
		name:  "dpop, RFC 9449",
		lines: []string{`DPoP error="use_dpop_nonce", error_description="Resource server requires nonce in DPoP proof", algs="ES256 PS256"`},
		want:  []Challenge{{Scheme: "DPoP", Params: []Param{{"error", "use_dpop_nonce"}, {"error_description", "Resource server requires nonce in DPoP proof"}, {"algs", "ES256 PS256"}}}},
	},
	{
		name:  "iis",
		lines: []string{"Negotiate", "NTLM", `Basic realm="intranet"`},
		want:  []Challenge{{Scheme: "Negotiate"}, {Scheme: "NTLM"}, {Scheme: "Basic", Params: []Param{{"realm", "intranet"}}}},
	},
	{
		name:  "negotiate and ntlm with data in one line",
		lines: []string{"Negotiate oYG2MIGzoAMKAQE/+aEL==, NTLM TlRMTVNTUAACAAAA"},
		want:  []Challenge{{Scheme: "Negotiate", Token68: "oYG2MIGzoAMKAQE/+aEL=="}, {Scheme: "NTLM", Token68: "TlRMTVNTUAACAAAA"}},
	},
	{
		name:  "rfc 9110 example",
		lines: []string{`Basic realm="simple", Newauth realm="apps", type=1, title="Login to \"apps\""`},
		want: []Challenge{
			{Scheme: "Basic", Params: []Param{{"realm", "simple"}}},
			{Scheme: "Newauth", Params: []Param{{"realm", "apps"}, {"type", "1"}, {"title", `Login to "apps"`}}},
		},
	},
	{
		name:  "basic with comma and scheme in quotes, then bearer",
		lines: []string{`Basic realm="Sales, Bearer error=\"invalid_token\"", charset="UTF-8", Bearer realm=api, error=invalid_token`},
		want: []Challenge{
			{Scheme: "Basic", Params: []Param{{"realm", `Sales, Bearer error="invalid_token"`}, {"charset", "UTF-8"}}},
			{Scheme: "Bearer", Params: []Param{{"realm", "api"}, {"error", "invalid_token"}}},
		},
	},
}

// grammar are the corners of RFC 9110, sections 5.6 and 11, and the ways to leave it.
var grammar = []struct {
	name string
	line string
	want []Challenge
}{
	{"nothing", "", nil},
	{"only empty elements", " , ,\t,", nil},
	{"empty elements anywhere", `, ,Bearer a=b,, ,c=d, ,Basic,`, []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}, {"c", "d"}}}, {Scheme: "Basic"}}},
	{"empty element before the first parameter", `Bearer , a=b`, []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"space around equals", "Bearer a = b ,\tc\t=\t\"d\"", []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}, {"c", "d"}}}}},
	{"case is kept", `bEARER Error="X"`, []Challenge{{Scheme: "bEARER", Params: []Param{{"Error", "X"}}}}},
	{"escapes", `A a="\\\"\a\	"`, []Challenge{{Scheme: "A", Params: []Param{{"a", "\\\"a\t"}}}}},
	{"empty and non-ASCII value", "A a=\"\", b=\"h\xe9, \u00e9\"", []Challenge{{Scheme: "A", Params: []Param{{"a", ""}, {"b", "h\xe9, \u00e9"}}}}},
	{"token68 that looks like a name", "A realm=, B", []Challenge{{Scheme: "A", Token68: "realm="}, {Scheme: "B"}}},
	{"name that is no token68", "A a*=b", []Challenge{{Scheme: "A", Params: []Param{{"a*", "b"}}}}},
	{"first of two wins", `Bearer error="invalid_token", ERROR="x", scope=a`, []Challenge{{Scheme: "Bearer", Params: []Param{{"error", "invalid_token"}, {"scope", "a"}}}}},
	{"same name in two challenges", `A a=1, B a=2`, []Challenge{{Scheme: "A", Params: []Param{{"a", "1"}}}, {Scheme: "B", Params: []Param{{"a", "2"}}}}},

	{"parameter without scheme", `error="x", Bearer a=b`, []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"parameter after token68", `A abc, a=b, B`, []Challenge{{Scheme: "A", Token68: "abc"}, {Scheme: "B"}}},
	{"no closing quote", `Bearer a=b, c="d, Basic`, []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"ends in backslash", `Bearer a=b, c="d\`, []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"control character in quotes", "Bearer a=\"b\x00\"", []Challenge{{Scheme: "Bearer"}}},
	{"escaped control character", "Bearer a=\"b\\\x7f\"", []Challenge{{Scheme: "Bearer"}}},
	{"two words without quotes", `Basic realm=My Site, Bearer a=b`, []Challenge{{Scheme: "Basic"}, {Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"text behind quotes", `Basic realm="x"y, Bearer a=b`, []Challenge{{Scheme: "Basic"}, {Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"no comma between parameters", `Bearer a="b" c="d"`, []Challenge{{Scheme: "Bearer"}}},
	{"two words, no scheme made of the second", `Bearer foo bar=x`, []Challenge{{Scheme: "Bearer"}}},
	{"no value", `Bearer a=b, c=, d=e`, []Challenge{{Scheme: "Bearer", Params: []Param{{"a", "b"}}}}},
	{"scheme without space", `A, Bearer"x"`, []Challenge{{Scheme: "A"}}},
	{"not a scheme", `A a=b, @, B`, []Challenge{{Scheme: "A", Params: []Param{{"a", "b"}}}, {Scheme: "B"}}},
	// One malformed challenge hid the claims that the Bearer behind it asks for (Azure's own test).
	{"challenge behind one that cannot be read", `Foo bar=can't parse this, baz="x, y", Bearer claims="eyJ9"`, []Challenge{{Scheme: "Foo"}, {Scheme: "Bearer", Params: []Param{{"claims", "eyJ9"}}}}},
	{"words of an unquoted text make no challenge", `Bearer error_description=bad token, please log in, Basic realm="x"`, []Challenge{{Scheme: "Bearer"}, {Scheme: "Basic", Params: []Param{{"realm", "x"}}}}},
	{"a control character in quotes ends the line", "Bearer a=\"b\x00, Bearer error=x\", B", []Challenge{{Scheme: "Bearer"}}},
	{"parameters behind a fault are nobody's", `Bearer a=b c, error="x"`, []Challenge{{Scheme: "Bearer"}}},
	{"a comma in quotes behind a fault", `A b=c d "e, Bearer error=x", f=g, B`, []Challenge{{Scheme: "A"}, {Scheme: "B"}}},
	{"an open quote behind a fault", `A b=c d "e, Bearer error=x, f=g, B`, []Challenge{{Scheme: "A"}}},
	{"token68 with a hole", `A ab=c=, B`, []Challenge{{Scheme: "A"}, {Scheme: "B"}}},
}

func TestParseReadsWhatServersSend(t *testing.T) {
	t.Parallel()
	for _, tt := range served {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Parse(tt.lines); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Parse(%q) =\n%q, want\n%q", tt.lines, got, tt.want)
			}
		})
	}
}

func TestParseKeepsToTheGrammar(t *testing.T) {
	t.Parallel()
	for _, tt := range grammar {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Parse([]string{tt.line}); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Parse(%q) =\n%q, want\n%q", tt.line, got, tt.want)
			}
		})
	}
}

func TestFaultEndsOnlyItsLine(t *testing.T) {
	t.Parallel()
	got := Parse([]string{`Bearer a="`, `c=d, Basic`, `DPoP e=f`})
	want := []Challenge{{Scheme: "Bearer"}, {Scheme: "Basic"}, {Scheme: "DPoP", Params: []Param{{"e", "f"}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Parse() = %q, want %q", got, want)
	}
}

func TestSchemesAndNamesIgnoreCase(t *testing.T) {
	t.Parallel()
	c := Parse([]string{`bEaReR ErRoR=Invalid_Token`})[0]
	if !c.Is("Bearer") || c.Is("Basic") || c.Is("") {
		t.Errorf("Is is wrong about %q", c.Scheme)
	}
	if got, want := c.Param("error"), "Invalid_Token"; got != want {
		t.Errorf("Param(error) = %q, want %q", got, want)
	}
	if got := c.Param("scope"); got != "" {
		t.Errorf("Param(scope) = %q, want nothing", got)
	}
}

func TestStringIsCanonical(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"Negotiate":               "Negotiate",
		"NTLM   abc=":             "NTLM abc=",
		`Bearer  a=b,c = "d"`:     `Bearer a="b", c="d"`,
		`Bearer a="\x\"\\", b=""`: `Bearer a="x\"\\", b=""`,
	} {
		if got := Parse([]string{line})[0].String(); got != want {
			t.Errorf("String() of %q = %q, want %q", line, got, want)
		}
	}
	if got := (Challenge{}).String(); got != "" {
		t.Errorf("String() of nothing = %q", got)
	}
}

// hostile are fields that a server sends to keep a client busy.
func hostile(n int) map[string]string {
	long := func(s string) string { return strings.Repeat(s, n/len(s)) }
	return map[string]string{
		"commas":     long(","),
		"spaces":     "Bearer" + long(" "),
		"schemes":    long("a,"),
		"params":     "Bearer " + long("a=b,"),
		"equals":     "Bearer a" + long("="),
		"token68":    "Bearer " + long("a") + "@",
		"quotes":     `Bearer a="` + long(`\"`),
		"quoted":     `Bearer a="` + long(`\"`) + `"`,
		"challenges": long("A b=c,"),
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var names, manyParams strings.Builder
	manyParams.WriteString("Bearer ")
	for i := range maxParams + 1 {
		fmt.Fprintf(&names, "S%d,", i)
		fmt.Fprintf(&manyParams, "p%d=v,", i)
	}
	if got := len(Parse([]string{names.String(), "Bearer"})); got != maxChallenges {
		t.Errorf("%d challenges, want %d", got, maxChallenges)
	}
	got := Parse([]string{manyParams.String() + "Basic", "DPoP"})
	if len(got) != 3 || len(got[0].Params) != maxParams || !got[1].Is("Basic") || !got[2].Is("DPoP") {
		t.Errorf("Parse() = %q, want %d parameters, Basic and DPoP", got, maxParams)
	}
	fits := `Bearer a="` + strings.Repeat("x", maxLineBytes-len(`Bearer a=""`)) + `"`
	if got := Parse([]string{fits}); len(got) != 1 || len(got[0].Params) != 1 {
		t.Error("a line at the limit was not read")
	}
	if got := Parse([]string{fits + " ", "Basic"}); len(got) != 1 || !got[0].Is("Basic") {
		t.Errorf("%d challenges, want only the one after the line beyond the limit", len(got))
	}
	if got := Parse(append(make([]string, maxLines), "Bearer")); got != nil {
		t.Errorf("Parse() = %q, want no line beyond %d read", got, maxLines)
	}
	// The canonical form is longer than what was sent, and has to stay readable as well.
	tight := "Bearer a=" + strings.Repeat("x", maxLineBytes-len("Bearer a="))
	checkProperties(t, []string{tight})
	for _, line := range hostile(maxLineBytes / 2) {
		checkProperties(t, []string{line, line})
	}
}

func TestParseSharesTheField(t *testing.T) {
	field := []string{`Bearer realm="api", error="invalid_token"`}
	// The list of challenges once, the list of parameters when it grows: to 1 and to 2.
	if got := testing.AllocsPerRun(100, func() { Parse(field) }); got > 3 {
		t.Errorf("%v allocations, want no more than 3", got)
	}
}

// checkProperties checks what holds for every field.
func checkProperties(t *testing.T, lines []string) {
	t.Helper()
	in, out := 0, 0
	for _, l := range lines {
		in += len(l)
	}
	all := Parse(lines)
	if len(all) > maxChallenges {
		t.Errorf("%d challenges", len(all))
	}
	var joined []string
	for _, c := range all {
		s := c.String()
		joined = append(joined, s)
		out += len(s)
		if back := Parse([]string{s}); len(back) != 1 || !reflect.DeepEqual(back[0], c) {
			t.Errorf("%q parses to %q, want %q", s, back, c)
		}
		if c.Scheme == "" || c.Token68 != "" && c.Params != nil || len(c.Params) > maxParams {
			t.Errorf("%#v is not a challenge", c)
		}
		for i, p := range c.Params {
			if c.index(p.Name) != i {
				t.Errorf("%q: %q is there twice", s, p.Name)
			}
			if strings.ContainsAny(p.Value, "\r\n\x00") {
				t.Errorf("%q: control character in the value of %q", s, p.Name)
			}
		}
	}
	// "a=b," becomes `a="b", `: nothing grows by more than that.
	if out > 2*in {
		t.Errorf("%d bytes became %d", in, out)
	}
	if line := strings.Join(joined, ", "); len(line) <= maxLineBytes {
		if back := Parse([]string{line}); !reflect.DeepEqual(back, all) {
			t.Errorf("in one line, %q parses to %q, want %q", line, back, all)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range served {
		f.Add(strings.Join(s.lines, "\n"))
	}
	for _, g := range grammar {
		f.Add(g.line)
	}
	for _, line := range hostile(64) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, field string) {
		checkProperties(t, strings.Split(field, "\n"))
	})
}

func BenchmarkParse(b *testing.B) {
	run := func(name string, lines []string) {
		b.Run(name, func(b *testing.B) {
			n := 0
			for _, l := range lines {
				n += len(l)
			}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				Parse(lines)
			}
		})
	}
	for _, s := range served {
		switch s.name {
		case "keycloak", "entra claims challenge", "iis":
			run(s.name, s.lines)
		}
	}
	// The throughput is to stay the same from one size to the next: the time is linear.
	for _, kind := range []string{"commas", "params", "equals", "token68", "quotes"} {
		for _, n := range []int{1 << 10, 4 << 10, 15 << 10} {
			run(fmt.Sprintf("hostile/%s/%d", kind, n), []string{hostile(n)[kind]})
		}
	}
}
