// Package challenge reads the WWW-Authenticate field of a response, as RFC 9110, section 11.6.1,
// defines it. The Transport judges a 401 by what stands there.
//
// The parser keeps to the grammar and is tolerant only where the grammar is: several field lines,
// several challenges in a line, empty list elements, white space around "=". Its input is written
// by a server that may be hostile, so that every dimension has a limit, the time is linear in the
// input and nothing panics.
package challenge

import (
	"slices"
	"strings"
)

// The limits on what [Parse] reads. Real fields have up to three challenges of up to ten
// parameters in less than 4 KiB. What is beyond a limit is dropped like what is malformed.
const (
	maxLines      = 32       // field lines of one response
	maxLineBytes  = 16 << 10 // one field line, and the canonical form of one challenge
	maxChallenges = 32       // challenges of one response
	maxParams     = 32       // parameters of one challenge
)

// A Challenge is one way to authenticate that a server offers.
//
// The zero value is no challenge. A Challenge that [Parse] returned has a Scheme and at most one of
// Token68 and Params; it is a value that shares its strings with the parsed field, may be copied
// and is safe for concurrent use as long as nobody writes to it.
type Challenge struct {
	// Scheme is the authentication scheme as it was sent: compare it with [Challenge.Is].
	Scheme string
	// Token68 is the unnamed argument that Negotiate and NTLM use in place of parameters.
	Token68 string
	// Params are the parameters in the order in which they were sent. No name is there twice.
	Params []Param
}

// A Param is one parameter of a [Challenge].
type Param struct {
	Name  string // as it was sent; names are case-insensitive
	Value string // without the quotes and backslashes of the field
}

// Is reports whether c is of the given scheme. Schemes are case-insensitive (RFC 9110, section
// 11.1).
func (c Challenge) Is(scheme string) bool {
	return strings.EqualFold(c.Scheme, scheme)
}

// Param returns the value of the named parameter, and "" if it is absent. Names are
// case-insensitive (RFC 9110, section 11.2).
func (c Challenge) Param(name string) string {
	if i := c.index(name); i >= 0 {
		return c.Params[i].Value
	}
	return ""
}

// String returns the canonical form of c: one space after the scheme, every value quoted (which
// RFC 9110, section 11.5, demands for the realm), a comma and a space between parameters. For a
// Challenge that [Parse] returned, parsing the result gives c again.
func (c Challenge) String() string {
	if c.Token68 != "" {
		return c.Scheme + " " + c.Token68
	}
	n := len(c.Scheme)
	for _, p := range c.Params {
		n += p.size()
	}
	b := make([]byte, 0, n)
	b = append(b, c.Scheme...)
	sep := " "
	for _, p := range c.Params {
		b = append(b, sep...)
		b = append(b, p.Name...)
		b = append(b, '=', '"')
		for i := range len(p.Value) {
			if p.Value[i] == '"' || p.Value[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, p.Value[i])
		}
		b = append(b, '"')
		sep = ", "
	}
	return string(b)
}

// size returns what p adds to the canonical form: its name, its quoted value, and `, =` (in front of
// the first parameter there is no comma).
func (p Param) size() int {
	escapes := strings.Count(p.Value, `"`) + strings.Count(p.Value, `\`)
	return len(p.Name) + len(p.Value) + escapes + len(`, =""`)
}

// index returns the position of the named parameter, or -1.
func (c Challenge) index(name string) int {
	return slices.IndexFunc(c.Params, func(p Param) bool { return strings.EqualFold(p.Name, name) })
}

// Parse returns the challenges in the lines of a WWW-Authenticate field, which is what
// resp.Header.Values("WWW-Authenticate") returns, in the order in which they were sent.
//
// Each line stands for itself. Where a challenge leaves the grammar, what was complete before the
// fault is kept (a challenge with the parameters up to there, or with its scheme alone). Reading goes
// on at the next comma outside of quotes that a whole challenge follows: a server's odd Negotiate must
// not hide its Bearer. Parameters on the way there are dropped, as it cannot be told whose they are, and
// so is the rest of a line in which a quote is not closed. Half a value is never taken for a whole one. The
// caller may miss an error code that way, and refresh once where that could not help: what API
// Gateway sends, without commas, is a bare Bearer.
//
// Of parameters with the same name, which RFC 9110, section 11.2, forbids, the first one wins and
// the others are dropped, so that text that slipped into a later parameter cannot take the place of
// one that the server wrote before it.
func Parse(values []string) []Challenge {
	var out []Challenge
	for _, line := range values[:min(len(values), maxLines)] {
		// A line that is too long is not read up to the limit: the cut could be inside a token.
		if len(line) <= maxLineBytes {
			out = parseLine(out, line)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// parseLine appends the challenges of one field line to out.
//
// A comma separates both challenges and parameters. What follows it is a parameter exactly if it is
// a token before a "=", since no scheme is followed by one.
func parseLine(out []Challenge, line string) []Challenge {
	s := scanner{line}
	var cur *Challenge // the last one of this line; a parameter cannot belong to another line's
	size := 0          // of the canonical form of cur, kept here so that it is counted once

	// param reads the rest of a parameter, from the "=" on, into cur.
	param := func(name string) bool {
		value, ok := s.value()
		if !ok || !s.atEnd() {
			return false // RFC 9110 wants a comma here: realm=My Site is not the realm "My"
		}
		if cur.index(name) >= 0 {
			return true
		}
		p := Param{name, value}
		size += p.size()
		if len(cur.Params) == maxParams || size > maxLineBytes {
			return false
		}
		cur.Params = append(cur.Params, p)
		return true
	}

	lost := false // there was a fault in this line
	for len(out) < maxChallenges {
		s.skipEmpty()
		if s.rest == "" {
			return out
		}
		if name := s.token(); name != "" {
			spaced := s.skipSpace()
			if s.next() == '=' {
				if cur != nil && cur.Token68 == "" && param(name) {
					continue
				}
			} else if spaced || s.atEnd() {
				out = append(out, Challenge{Scheme: name})
				cur, size = &out[len(out)-1], len(name)-len(",") // the first parameter has no comma
				if s.atEnd() {
					continue
				}
				if cur.Token68 = s.token68(); cur.Token68 != "" {
					continue
				}
				// What follows a scheme without a comma is not another scheme.
				name = s.token()
				s.skipSpace()
				if name != "" && s.next() == '=' && param(name) {
					continue
				}
				if lost { // more of the text that began with the fault
					out = slices.Delete(out, len(out)-1, len(out))
				}
			}
		}
		lost = true
		cur = nil // what follows belongs to no challenge until the next scheme
		s.skipElement()
	}
	return out
}

// A scanner reads a field line from the front.
type scanner struct{ rest string }

// next returns the byte at hand, and 0, which no rule of the grammar accepts, at the end.
func (s *scanner) next() byte {
	if s.rest == "" {
		return 0
	}
	return s.rest[0]
}

// take returns the longest prefix of bytes that are ok, and moves behind it.
func (s *scanner) take(ok func(byte) bool) string {
	i := 0
	for i < len(s.rest) && ok(s.rest[i]) {
		i++
	}
	taken := s.rest[:i]
	s.rest = s.rest[i:]
	return taken
}

// token reads a token (RFC 9110, section 5.6.2). It returns "" if there is none.
func (s *scanner) token() string { return s.take(isTokenByte) }

// skipSpace skips optional white space (RFC 9110, section 5.6.3) and reports whether there was any.
func (s *scanner) skipSpace() bool { return s.take(isSpace) != "" }

// skipEmpty skips empty list elements, which RFC 9110, section 5.6.1.2, makes a recipient ignore.
func (s *scanner) skipEmpty() {
	s.take(func(b byte) bool { return b == ',' || isSpace(b) })
}

// atEnd reports whether the list element at hand ends here, behind optional white space.
func (s *scanner) atEnd() bool {
	s.skipSpace()
	return s.rest == "" || s.rest[0] == ','
}

// skipElement moves to the next comma that is not in quotes, or to the end.
func (s *scanner) skipElement() {
	for s.rest != "" && s.rest[0] != ',' {
		if s.rest[0] == '"' {
			_, _ = s.quoted()
		} else {
			s.rest = s.rest[1:]
		}
	}
}

// token68 reads a token68 (RFC 9110, section 11.2) that fills the rest of its list element. If there
// is none it returns "" and stays: what begins like one may be the name of a parameter.
func (s *scanner) token68() string {
	start := s.rest
	if s.take(isToken68Byte) == "" {
		return ""
	}
	s.take(func(b byte) bool { return b == '=' })
	t := start[:len(start)-len(s.rest)]
	if !s.atEnd() {
		s.rest = start
		return ""
	}
	return t
}

// value reads a "=" and the value of a parameter, a token or a quoted-string.
func (s *scanner) value() (value string, ok bool) {
	s.rest = s.rest[1:]
	s.skipSpace()
	if s.next() == '"' {
		return s.quoted()
	}
	value = s.token()
	return value, value != ""
}

// quoted reads a quoted-string (RFC 9110, section 5.6.4) and returns what it stands for. After one
// that is none nothing is left: it cannot be told where it ends. It allocates only if there is a backslash.
func (s *scanner) quoted() (value string, ok bool) {
	s.rest = s.rest[1:]
	var b []byte
	for {
		chunk := s.take(isQuotedByte)
		switch s.next() {
		case '"':
			s.rest = s.rest[1:]
			if b == nil {
				return chunk, true
			}
			return string(append(b, chunk...)), true
		case '\\':
			if len(s.rest) < 2 || isControl(s.rest[1]) {
				s.rest = ""
				return "", false
			}
			b = append(append(b, chunk...), s.rest[1])
			s.rest = s.rest[2:]
		default: // a control character, or no closing quote
			s.rest = ""
			return "", false
		}
	}
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' }

func isControl(b byte) bool { return b < ' ' && b != '\t' || b == 0x7f }

func isQuotedByte(b byte) bool { return b != '"' && b != '\\' && !isControl(b) }

func isAlphanumeric(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}

func isTokenByte(b byte) bool {
	return isAlphanumeric(b) || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

func isToken68Byte(b byte) bool {
	return isAlphanumeric(b) || strings.IndexByte("-._~+/", b) >= 0
}
