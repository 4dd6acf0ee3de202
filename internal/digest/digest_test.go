package digest_test

import (
	"strings"
	"testing"

	"example.com/authtrip/internal/digest"
)

func TestDifferentPartsHaveDifferentNames(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{
		nil,
		{""},
		{"", ""},
		{"ab"},
		{"a", "b"},
		{"ab", ""},
		{"", "ab"},
		{"b", "a"},
		{"ab", "c"},
		{"a", "bc"},
		{"abc"},
		{"a\x001"},
		{"a\x001", ""},
		{"a", "\x001"},
	} {
		name := digest.Of(parts...)
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q have the same name", parts, other)
		}
		if seen[name] = parts; name != digest.Of(parts...) {
			t.Errorf("%q has two names", parts)
		}
	}
}

// What is in Caches and Stores has names of this form: another one would lose all of it.
func TestNamesStayWhatTheyAre(t *testing.T) {
	if got, want := digest.Of("ab", "c"), "PFvKaJ0fxIuieclLRiAq2-4TvGU9HT47tN6D2IG_rjM"; got != want {
		t.Errorf("Of = %q, want %q", got, want)
	}
}

func TestNameSaysNothingAndFitsEverywhere(t *testing.T) {
	name := digest.Of("alice@example.com", strings.Repeat("x", 1<<20))
	if len(name) != 43 || strings.Contains(name, "alice") || strings.ContainsAny(name, "+/= ") {
		t.Errorf("name = %q", name)
	}
}
