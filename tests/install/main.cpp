// main.cpp: a program that uses the installed library through its one header: outside MODEL.
#include <iostream>
#include <mainspring.hpp>

int main(int, char** arguments) {
  auto model = ms::Model::load({.model = arguments[1]});
  const auto made =
      model.generate("Once upon a time", {.sampling = {.temperature = 0}, .max_tokens = 8});
  std::cout << "mainspring " << ms::version() << ": " << made.text << '\n';
  return made.tokens.size() != 8;
}
