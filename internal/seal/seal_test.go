package seal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"example.com/authtrip/internal/seal"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, seal.KeyLen) }

func sealed(t *testing.T, s seal.Sealer, name, value string) []byte {
	t.Helper()
	b, err := s.Seal(name, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsSealedOpensAndShowsNothing(t *testing.T) {
	s := seal.Sealer{Label: "test", Keys: [][]byte{key(1)}}
	for _, value := range []string{"", "secret", strings.Repeat("secret", 10_000)} {
		b := sealed(t, s, "alice", value)
		if bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("alice")) {
			t.Error("the value, or its name, can be read")
		}
		got, err := s.Open("alice", b)
		if err != nil || string(got) != value {
			t.Errorf("%d bytes come back as %d, %v", len(value), len(got), err)
		}
	}
	if bytes.Equal(sealed(t, s, "alice", "x"), sealed(t, s, "alice", "x")) {
		t.Error("the same value looks the same twice")
	}
}

func TestValueOpensUnderItsOwnNameLabelAndKeyAlone(t *testing.T) {
	s := seal.Sealer{Label: "test", Keys: [][]byte{key(1)}}
	b := sealed(t, s, "alice", "secret")
	for what, open := range map[string]func() ([]byte, error){
		"another name":  func() ([]byte, error) { return s.Open("bob", b) },
		"no name":       func() ([]byte, error) { return s.Open("", b) },
		"another label": func() ([]byte, error) { return seal.Sealer{Label: "tes", Keys: s.Keys}.Open("talice", b) },
		"another key":   func() ([]byte, error) { return seal.Sealer{Label: "test", Keys: [][]byte{key(2)}}.Open("alice", b) },
		"no key":        func() ([]byte, error) { return seal.Sealer{Label: "test"}.Open("alice", b) },
		"nothing":       func() ([]byte, error) { return s.Open("alice", nil) },
		"its beginning": func() ([]byte, error) { return s.Open("alice", b[:12]) },
		"its plaintext": func() ([]byte, error) { return s.Open("alice", []byte("secret")) },
		"a byte more":   func() ([]byte, error) { return s.Open("alice", append(bytes.Clone(b), 0)) },
		"a byte less":   func() ([]byte, error) { return s.Open("alice", b[:len(b)-1]) },
	} {
		got, err := open()
		if !errors.Is(err, seal.Err) || got != nil {
			t.Errorf("%s: it opens, or the error is %v", what, err)
		}
	}
}

func TestNoBitOfASealedValueCanBeChanged(t *testing.T) {
	s := seal.Sealer{Label: "test", Keys: [][]byte{key(1)}}
	b := sealed(t, s, "alice", "secret")
	for i := range b {
		for bit := range 8 {
			changed := bytes.Clone(b)
			changed[i] ^= 1 << bit
			if _, err := s.Open("alice", changed); !errors.Is(err, seal.Err) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
}

func TestKeysChangeInThreeSteps(t *testing.T) {
	with := func(keys ...[]byte) seal.Sealer { return seal.Sealer{Label: "test", Keys: keys} }
	before := sealed(t, with(key(1)), "alice", "old")
	both := with(key(2), key(1))
	if got, err := both.Open("alice", before); err != nil || string(got) != "old" {
		t.Errorf("what the old key has sealed: %v", err)
	}
	after := sealed(t, both, "alice", "new")
	if got, err := with(key(2)).Open("alice", after); err != nil || string(got) != "new" {
		t.Errorf("the first key has not sealed: %v", err)
	}
	if got, err := with(key(1), key(2)).Open("alice", after); err != nil || string(got) != "new" {
		t.Errorf("a replica that has the new key as its last one: %v", err)
	}
	if _, err := with(key(2)).Open("alice", before); !errors.Is(err, seal.Err) {
		t.Errorf("without the old key: %v", err)
	}
}

func TestCheckSaysWhichKeyIsNone(t *testing.T) {
	for _, tt := range []struct {
		keys [][]byte
		want string
	}{
		{nil, " is empty"},
		{[][]byte{key(1), []byte("53CR3T")}, "[1] has 6 bytes, want 32"},
		{[][]byte{{}}, "[0] has 0 bytes, want 32"},
	} {
		if err := (seal.Sealer{Keys: tt.keys}).Check(); err == nil || err.Error() != tt.want {
			t.Errorf("error = %v, want %q", err, tt.want)
		}
	}
	if err := (seal.Sealer{Keys: [][]byte{key(1), key(2)}}).Check(); err != nil {
		t.Error(err)
	}
}

func TestHiddenNamesNeedTheirSecret(t *testing.T) {
	name := func(label string, secret []byte, s string) string {
		t.Helper()
		hidden, err := seal.Sealer{Label: label}.Hidden(secret, s)
		if err != nil {
			t.Fatal(err)
		}
		return hidden
	}
	alice := name("test", key(1), "alice")
	if alice != name("test", key(1), "alice") {
		t.Error("a name changes")
	}
	for what, other := range map[string]string{
		"another name":   name("test", key(1), "bob"),
		"another secret": name("test", key(2), "alice"),
		"another label":  name("other", key(1), "alice"),
	} {
		if other == alice {
			t.Errorf("%s: the same", what)
		}
	}
	if len(alice) != 43 || strings.Contains(alice, "alice") {
		t.Errorf("hidden = %q", alice)
	}
}

// What is in Stores was sealed by a release before: another format would lose all of it.
func TestSealedFormatStaysWhatItIs(t *testing.T) {
	const before = "\x61\x74\x73\x01\xd3\xb8\xd5\xc1\xa4\x85\xbe\xd8\xc8\xcd\xc7\xc6\x7a\xf3\x6c\x58\x09\xa4\xa5" +
		"\x2e\xbb\xdd\xbc\x1b\x71\x70\xde\x5b\x59\x3f\xde\x43\x3d\x81\x69\x37\x0b\xf5\x7d\x51\x5f\xb1"
	got, err := seal.Sealer{Label: "test", Keys: [][]byte{key(1)}}.Open("alice", []byte(before))
	if err != nil || string(got) != "secret" {
		t.Errorf("error = %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := seal.Sealer{Label: "test", Keys: [][]byte{key(1)}}
	b, err := s.Seal("alice", []byte("secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("ats\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := s.Open("alice", b); err == nil && string(got) != "secret" || err != nil && !errors.Is(err, seal.Err) {
			t.Errorf("Open = %q, %v", got, err)
		}
	})
}
