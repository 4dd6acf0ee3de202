package filestore

// Encode and Decode are the format of a file.
var (
	Encode = encode
	Decode = decode
)
